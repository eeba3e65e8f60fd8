# What most sources include: precompiled, a tenth of their time is saved. Only where they are compiled eight at a time
# (scripts/build): by itself each must include what it needs, and ccache knows no precompiled headers.
set(heartmula_headers <algorithm> <chrono> <filesystem> <fstream> <functional> <map> <memory> <optional> <span> <string>
  <thread> <variant> <vector> <fmt/format.h> <nlohmann/json.hpp> <spdlog/spdlog.h>)

# `name` uses those that `owner` has precompiled with the same flags; those of itself it precompiles, and `ARGN` too.
function(heartmula_precompiled_headers name owner)
  if(NOT CMAKE_UNITY_BUILD OR CMAKE_DISABLE_PRECOMPILE_HEADERS)
    return()
  elseif(name STREQUAL owner)
    target_precompile_headers(${name} PRIVATE ${ARGN} ${heartmula_headers})
  else()
    target_precompile_headers(${name} REUSE_FROM ${owner})
  endif()
endfunction()

# A floor is one folder of src/: a static library that may use the floors named after DEPENDS, all of which stand
# above it in the house plan (base, tensor, sampling, ops, cpu, cuda, text, lm, decode, codec, checkpoint, audio, song,
# measure, verify, bench, serve).
#
#   heartmula_floor(text SOURCES tokenizer.cpp prompt.cpp DEPENDS base LINK ICU::uc)
#
# LIGHT: only tells other floors what to compute, so its compile time counts and not its speed.
function(heartmula_floor name)
  cmake_parse_arguments(ARG "LIGHT" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(hm_${name} STATIC ${ARG_SOURCES})
  if(ARG_LIGHT AND CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(hm_${name} PRIVATE -O1)
  endif()
  target_include_directories(hm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_compile_definitions(hm_${name} PRIVATE HEARTMULA_VERSION="${PROJECT_VERSION}")
  foreach(dependency ${ARG_DEPENDS})
    if(NOT TARGET hm_${dependency})
      message(WARNING "src/${name}: ${dependency} is not a floor above it (see src/CMakeLists.txt)")
    endif()
    target_link_libraries(hm_${name} PUBLIC hm_${dependency})
  endforeach()
  target_link_libraries(hm_${name} PUBLIC ${ARG_LINK})
  if(HEARTMULA_FUZZ)
    target_compile_options(hm_${name} PRIVATE -fsanitize=fuzzer-no-link)  # counts its branches for libFuzzer
  endif()
  heartmula_precompiled_headers(hm_${name} hm_base)
  set_property(GLOBAL APPEND PROPERTY HEARTMULA_FLOORS hm_${name})
endfunction()

# What every test can rely on: where the program is and how to run it (under an emulator in a cross build), and the
# golden case that the repository carries. As definitions for C++ and as environment for scripts. One thread where a test
# asks for no number: several tests run at once, and their models are so small that more threads only take turns.
function(heartmula_test_settings name)
  cmake_parse_arguments(ARG "SLOW" "" "" ${ARGN})
  list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " emulator)
  set_tests_properties(${name} PROPERTIES TIMEOUT 900 ENVIRONMENT
    "HEARTMULA_PROGRAM=${PROJECT_BINARY_DIR}/heartmula;HEARTMULA_EMULATOR=${emulator};HEARTMULA_SOURCE_DIR=${PROJECT_SOURCE_DIR};HEARTMULA_THREADS=1")
  if(ARG_SLOW)
    set_tests_properties(${name} PROPERTIES LABELS slow COST 100)  # begun first
  endif()
endfunction()

# The same for everything that shares precompiled headers.
function(heartmula_test_flags name)
  # Compiling tests takes longer than running them: what they measure and what takes long is in the floors.
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${name} PRIVATE -O1)
  endif()
  target_link_libraries(${name} PRIVATE hm_base GTest::gtest GTest::gmock)
endfunction()

# What test programs share; further arguments are the floors and libraries that they use.
function(heartmula_test_program name)
  foreach(dependency ${ARGN})
    if(TARGET hm_${dependency})
      target_link_libraries(${name} PRIVATE hm_${dependency})
    else()
      target_link_libraries(${name} PRIVATE ${dependency})
    endif()
  endforeach()
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  heartmula_test_flags(${name})
  heartmula_precompiled_headers(${name} test_headers)
  target_compile_definitions(${name} PRIVATE HEARTMULA_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/golden/data"
                             HEARTMULA_SOURCE_FOLDER="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE GTest::gtest_main)
endfunction()

# The tests of a room, NAME.cpp each: one program, because that takes half the time to compile, and a ctest entry for
# each source that runs the suites it defines. Those after SLOW are left out under the sanitizers and under emulation.
#
#   heartmula_tests(text_tests TESTS prompt_test tokenizer_test SLOW lint_test DEPENDS text)
function(heartmula_tests program)
  cmake_parse_arguments(ARG "" "" "TESTS;SLOW;DEPENDS" ${ARGN})
  set(names ${ARG_TESTS} ${ARG_SLOW})
  list(TRANSFORM names APPEND .cpp OUTPUT_VARIABLE sources)
  add_executable(${program} ${sources})
  heartmula_test_program(${program} ${ARG_DEPENDS})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${sources})  # suites come and go
  foreach(name ${names})
    file(STRINGS ${name}.cpp suites REGEX "^TEST(_[FP])?\\(")
    list(TRANSFORM suites REPLACE "^TEST(_[FP])?\\(([A-Za-z0-9_]+).*" "\\2.*:*/\\2.*")
    list(REMOVE_DUPLICATES suites)
    list(JOIN suites ":" filter)
    add_test(NAME ${name} COMMAND ${program} "--gtest_filter=${filter}")
    set_tests_properties(${name} PROPERTIES FAIL_REGULAR_EXPRESSION "0 tests from 0 test suites ran")
    if(name IN_LIST ARG_SLOW)
      heartmula_test_settings(${name} SLOW)
    else()
      heartmula_test_settings(${name})
    endif()
  endforeach()
endfunction()

# A test with a program of its own: one that is built alone (.ci/run), or that replaces what others need. Its source is
# NAME.cpp where none is given.
#
#   heartmula_test(frame_loop_test decode cpu [SLOW] [SOURCES FILE...])
function(heartmula_test name)
  cmake_parse_arguments(ARG "SLOW" "" "SOURCES" ${ARGN})
  if(NOT ARG_SOURCES)
    set(ARG_SOURCES ${name}.cpp)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  heartmula_test_program(${name} ${ARG_UNPARSED_ARGUMENTS})
  add_test(NAME ${name} COMMAND ${name})
  if(ARG_SLOW)
    heartmula_test_settings(${name} SLOW)
  else()
    heartmula_test_settings(${name})
  endif()
endfunction()

# A test that is a script: heartmula_script_test(readme_flags_test [SLOW]) runs ./readme_flags_test.
function(heartmula_script_test name)
  add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${name})
  heartmula_test_settings(${name} ${ARGN})
endfunction()

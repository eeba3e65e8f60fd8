# A floor is one folder of src/: a static library that may use the floors named after DEPENDS, all of which stand
# above it in the house plan (base, tensor, ops, cpu, text, lm, sampling, decode, codec, audio, song).
#
#   heartmula_floor(text SOURCES tokenizer.cpp prompt.cpp DEPENDS base LINK ICU::uc)
function(heartmula_floor name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(hm_${name} STATIC ${ARG_SOURCES})
  target_include_directories(hm_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  foreach(dependency ${ARG_DEPENDS})
    target_link_libraries(hm_${name} PUBLIC hm_${dependency})
  endforeach()
  target_link_libraries(hm_${name} PUBLIC ${ARG_LINK})
  set_property(GLOBAL APPEND PROPERTY HEARTMULA_FLOORS hm_${name})
endfunction()

# One test program, one ctest entry of the same name. Further arguments are the floors and libraries it uses.
#
#   heartmula_test(tokenizer_test text)
function(heartmula_test name)
  add_executable(${name} ${name}.cpp)
  foreach(dependency ${ARGN})
    if(TARGET hm_${dependency})
      target_link_libraries(${name} PRIVATE hm_${dependency})
    else()
      target_link_libraries(${name} PRIVATE ${dependency})
    endif()
  endforeach()
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE HEARTMULA_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/golden/data")
  target_link_libraries(${name} PRIVATE GTest::gtest_main GTest::gmock)
  add_test(NAME ${name} COMMAND ${name})
endfunction()

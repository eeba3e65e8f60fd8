# One set of flags for every floor.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# What is not marked HEARTMULA_API (heartmula/export.h) stays inside libheartmula.so.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "heartmula needs g++ 12 or newer, or clang 14 or newer; ${CMAKE_CXX_COMPILER} is "
                      "${CMAKE_CXX_COMPILER_VERSION}. Choose another with CXX=g++-12.")
elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  message(FATAL_ERROR "heartmula needs clang 14 or newer, or g++ 12 or newer; ${CMAKE_CXX_COMPILER} is "
                      "${CMAKE_CXX_COMPILER_VERSION}. Choose another with CXX=clang++-14.")
endif()

# Contraction would give a row different bits in two instantiations of one template; kernels ask for FMA by name.
set(cxx_flags -ffp-contract=off)
list(APPEND cxx_flags -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align -Wunused
                      -Woverloaded-virtual -Wimplicit-fallthrough)
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND cxx_flags -Wno-subobject-linkage)  # takes a source that is included for a header
endif()
if(HEARTMULA_WERROR)
  list(APPEND cxx_flags -Werror)
endif()
if(HEARTMULA_SANITIZE)
  list(APPEND cxx_flags -fsanitize=${HEARTMULA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_compile_definitions(_GLIBCXX_ASSERTIONS HEARTMULA_SANITIZED)
  add_link_options(-fsanitize=${HEARTMULA_SANITIZE})
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${cxx_flags}>")
if(HEARTMULA_FUZZ AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "HEARTMULA_FUZZ needs clang: cmake --preset asan, or CXX=clang++ cmake -DHEARTMULA_FUZZ=ON ...")
endif()

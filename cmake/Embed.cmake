# The bytes of a file of the current source folder, as C++ writes them: 0x00,0x01, ... A change of it configures again.
macro(heartmula_read_bytes bytes file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  file(READ ${file} ${bytes} HEX)
  string(REGEX REPLACE "(..)" "0x\\1," ${bytes} "${${bytes}}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" ${bytes} "${${bytes}}")
endmacro()

# Makes the file `name` of the current source folder the std::string_view `symbol` of the program: NAME.h beside it
# declares it, and NAME.cpp in the current binary folder holds the bytes. A change of the file configures again.
#
#   heartmula_embed(abx.html abx_page kAbxPage)
function(heartmula_embed file name symbol)
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME floor)
  heartmula_read_bytes(bytes ${file})
  file(CONFIGURE OUTPUT ${name}.cpp CONTENT "// Made of src/@floor@/@file@.
#include \"@floor@/@name@.h\"

namespace heartmula {
namespace {

constexpr unsigned char kBytes[] = {
@bytes@
};

}  // namespace

const std::string_view @symbol@(reinterpret_cast<const char*>(kBytes), sizeof(kBytes));

}  // namespace heartmula
" @ONLY)
endfunction()

# Makes files of the current source folder the list that `NAME()` of NAME.h returns, of structs TYPE{name, bytes}: the
# names are those of the files, without folders.
#
#   heartmula_embed_list(studio_files StudioFile "studio/index.html;studio/studio.css")
function(heartmula_embed_list name type files)
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME floor)
  set(arrays "")
  set(entries "")
  set(number 0)
  foreach(file IN LISTS files)
    cmake_path(GET file FILENAME file_name)
    heartmula_read_bytes(bytes ${file})
    string(APPEND arrays "constexpr unsigned char kFile${number}[] = {\n${bytes}\n};\n")
    string(APPEND entries
           "    {\"${file_name}\", {reinterpret_cast<const char*>(kFile${number}), sizeof(kFile${number})}},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${name}.cpp CONTENT "// Made of files of src/@floor@.
#include \"@floor@/@name@.h\"

#include <vector>

namespace heartmula {
namespace {

@arrays@
}  // namespace

std::span<const @type@> @name@() {
  static const std::vector<@type@> kFiles = {
@entries@  };
  return kFiles;
}

}  // namespace heartmula
" @ONLY)
endfunction()

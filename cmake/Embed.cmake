# Makes the file `name` of the current source folder the std::string_view `symbol` of the program: NAME.h beside it
# declares it, and NAME.cpp in the current binary folder holds the bytes. A change of the file configures again.
#
#   heartmula_embed(abx.html abx_page kAbxPage)
function(heartmula_embed file name symbol)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME floor)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
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

// Tags and lyrics as they stand on the command line.
#pragma once

#include <string>
#include <string_view>

namespace heartmula {

/// Throws Error(kUser) if `text` is not what can be sung: no UTF-8, text of another encoding, a document (RTF, HTML,
/// PDF, a word processor's), JSON, or a control character other than tabs and line ends. The message begins with `name`
/// and says what it looks like and what to do.
void check_song_text(std::string_view name, std::string_view text);

/// The text that `value`, the argument of `flag` ("--lyrics"), stands for: what is in the file or comes from the stream
/// of that name ("-" is the standard input), with line ends as '\n' and without a byte order mark, or else the value
/// itself. Checked by check_song_text().
///
/// Throws Error(kUser) if `value` names a folder, or looks like the name of a file and names none: one line that begins
/// with /, ./, ../ or ~/ or ends in .txt or .lrc, or one word with an extension (moon.md). That message ends with
/// `literally`, how to give such a text; "" is "give it with FLAG_text".
std::string read_text_argument(std::string_view flag, const std::string& value, std::string_view literally = "");

}  // namespace heartmula

// Makes a song with the installed library: make_song CHECKPOINT LYRICS_FILE TAGS_FILE OUTPUT.wav MILLISECONDS
#include <heartmula/heartmula.h>

#include <fstream>
#include <iostream>
#include <iterator>

struct WavHeader {  // 32-bit float, stereo
  char riff[4] = {'R', 'I', 'F', 'F'};
  uint32_t bytes_after = 36;
  char wave[8] = {'W', 'A', 'V', 'E', 'f', 'm', 't', ' '};
  uint32_t format_bytes = 16;
  uint16_t format = 3, channels = 2;
  uint32_t rate = heartmula::kSampleRate, bytes_per_second = 8 * heartmula::kSampleRate;
  uint16_t frame_bytes = 8, bits = 32;
  char data[4] = {'d', 'a', 't', 'a'};
  uint32_t data_bytes = 0;
};

std::string contents(const char* path) {
  return {std::istreambuf_iterator(std::ifstream(path).rdbuf()), {}};
}

int main(int argc, char** argv) try {
  if (argc != 6) throw std::runtime_error("needs CHECKPOINT LYRICS_FILE TAGS_FILE OUTPUT.wav MILLISECONDS");
  std::ofstream wav(argv[4], std::ios::binary);
  WavHeader header;
  const auto write = [&](const auto& value) { wav.write(reinterpret_cast<const char*>(&value), sizeof value); };
  write(header);

  heartmula::Callbacks callbacks;
  callbacks.audio = [&](std::span<const float> left, std::span<const float> right) {  // each piece once it is final
    for (size_t i = 0; i < left.size(); ++i) write(left[i]), write(right[i]);
    header.data_bytes += static_cast<uint32_t>(8 * left.size());
  };
  heartmula::Model model({.model_path = argv[1]});
  const heartmula::Song song = model.generate(
      {.lyrics = contents(argv[2]), .tags = contents(argv[3]), .max_audio_length_ms = std::stoll(argv[5])}, callbacks);

  header.bytes_after += header.data_bytes;
  wav.seekp(0);
  write(header);
  std::cout << argv[4] << ": " << song.frames.size() << " frames, seed " << song.seed << '\n';
  return wav.flush() ? 0 : 1;
} catch (const std::exception& error) {  // heartmula::Error says in one line what is wrong and what to do
  std::cerr << "make_song: " << error.what() << '\n';
  return 1;
}

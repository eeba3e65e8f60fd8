// Makes a song with the installed library: make_song CHECKPOINT LYRICS_FILE TAGS_FILE OUTPUT.wav MILLISECONDS
#include <heartmula/heartmula.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>

std::string contents(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A header for 16-bit stereo; `bytes` of samples follow. Little-endian machines only.
void write_header(std::ofstream& file, uint32_t bytes) {
  const uint32_t rate = heartmula::kSampleRate;
  const uint32_t numbers[] = {16, 1 | 2 << 16, rate, rate * 4, 4 | 16 << 16};  // size, PCM stereo, rates, frame, bits
  const auto put = [&](uint32_t number) { file.write(reinterpret_cast<const char*>(&number), 4); };
  file << "RIFF", put(36 + bytes), file << "WAVEfmt ";
  for (const uint32_t number : numbers) put(number);
  file << "data", put(bytes);
}

int main(int argc, char** argv) try {
  if (argc != 6)
    throw std::invalid_argument("usage: make_song CHECKPOINT LYRICS_FILE TAGS_FILE OUTPUT.wav MILLISECONDS");
  std::ofstream wav(argv[4], std::ios::binary);
  uint32_t bytes = 0;
  write_header(wav, bytes);

  heartmula::Callbacks callbacks;
  callbacks.audio = [&](std::span<const float> left,
                        std::span<const float> right) {  // each piece as soon as it is final
    for (size_t i = 0; i < left.size(); ++i) {
      for (const float sample : {left[i], right[i]}) {
        const auto value = static_cast<int16_t>(std::lround(std::clamp(sample, -1.0f, 1.0f) * 32767));
        wav.write(reinterpret_cast<const char*>(&value), sizeof value);
        bytes += sizeof value;
      }
    }
  };
  callbacks.progress = [](const heartmula::Progress& p) {
    std::cerr << p.stage << ' ' << p.done << '/' << p.total << '\n';
  };

  heartmula::Model model({.model_path = argv[1]});
  const heartmula::SongRequest request = {
      .lyrics = contents(argv[2]), .tags = contents(argv[3]), .max_audio_length_ms = std::stoll(argv[5]), .seed = 1};
  const heartmula::Song song = model.generate(request, callbacks);
  wav.seekp(0);
  write_header(wav, bytes);
  std::cout << song.frames.size() << " frames, seed " << song.seed << ", " << bytes / 4 << " samples\n";
  return wav.flush() ? 0 : 1;
} catch (const std::exception& error) {  // heartmula::Error says in one line what is wrong and what to do
  std::cerr << "make_song: " << error.what() << '\n';
  return 1;
}

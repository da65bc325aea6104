#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

/// Runs a fuzz target where there is no libFuzzer: over every file of a folder, then over so many
/// mutations of them, the same ones each time. An input that ends the process is in
/// ./crash-input.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

/// There where a sanitizer is linked in.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using input = std::vector<uint8_t>;

input read(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::vector<char> bytes(std::istreambuf_iterator<char>{in}, {});
  return {bytes.begin(), bytes.end()};
}

class mutator {
public:
  explicit mutator(const std::vector<input>& corpus) : corpus_{corpus} {}

  input next() {
    auto out = corpus_[below(corpus_.size())];
    for (size_t n = 1 + below(8); n > 0; --n)
      change(out);
    return out;
  }

private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  void change(input& x) {
    constexpr size_t longest = 1 << 20;
    auto at = static_cast<std::ptrdiff_t>(below(x.size()));
    switch (below(6)) {
    case 0: // a bit
      if (!x.empty())
        x[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1u << below(8));
      break;
    case 1: // a byte, often one that means something
      if (!x.empty())
        x[static_cast<size_t>(at)] = interesting_[below(std::size(interesting_))];
      break;
    case 2: // one more
      x.insert(x.begin() + at, static_cast<uint8_t>(random_()));
      break;
    case 3: // some less
      if (!x.empty())
        x.erase(x.begin() + at, x.begin() + std::min<std::ptrdiff_t>(
                                                at + 1 + static_cast<std::ptrdiff_t>(below(64)),
                                                static_cast<std::ptrdiff_t>(x.size())));
      break;
    case 4: // a part of another input
      if (auto& other = corpus_[below(corpus_.size())]; !other.empty() && x.size() < longest) {
        auto from = below(other.size());
        auto length = 1 + below(std::min<size_t>(other.size() - from, 512));
        auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
        x.insert(x.begin() + at, begin, begin + static_cast<std::ptrdiff_t>(length));
      }
      break;
    default: // cut
      x.resize(below(x.size() + 1));
    }
  }

  static constexpr uint8_t interesting_[] = {0,   1,   0x7f, 0x80, 0xff, '\\', '/', '.', '=',
                                             ':', '"', '[',  ']',  '\n', ' ',  'u', '0', '9'};
  const std::vector<input>& corpus_;
  std::mt19937_64 random_{20240607};
};

const input* current = nullptr;

/// Keeps the input that the process dies of; only calls what a signal handler may.
void keep_current() {
  int file = ::open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0 || current == nullptr)
    return;
  if (::write(file, current->data(), current->size()) >= 0)
    ::close(file);
}

void on_signal(int number) {
  keep_current();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void run(const input& x) {
  current = &x;
  LLVMFuzzerTestOneInput(x.data(), x.size());
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s CORPUS-FOLDER MUTATIONS\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{argv[1]})
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<input> corpus;
  for (const auto& file : files)
    corpus.push_back(read(file));
  if (corpus.empty()) {
    std::fprintf(stderr, "%s holds no inputs\n", argv[1]);
    return 2;
  }
  for (int number : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS})
    std::signal(number, on_signal);
  if (__sanitizer_set_death_callback != nullptr)
    __sanitizer_set_death_callback(keep_current);
  for (const auto& x : corpus)
    run(x);
  mutator mutations{corpus};
  for (auto n = std::strtoul(argv[2], nullptr, 10); n > 0; --n)
    run(mutations.next());
  return 0;
}

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "troupe/models/tokenizer/sentencepiece_model.hpp"

using namespace troupe;

/// A tokenizer.model: whatever is read keeps what sentencepiece_model.hpp promises.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes{reinterpret_cast<const char*>(data), size};
  auto model = tokenizing::read_sentencepiece(bytes, "tokenizer.model");
  if (!model)
    return text_of(model.error()).empty() ? (std::abort(), 0) : 0;
  if (model->pieces.empty() || model->unknown_id >= model->pieces.size())
    std::abort();
  for (const auto& piece : model->pieces)
    if (piece.text.empty() || !std::isfinite(piece.score))
      std::abort();
  return 0;
}

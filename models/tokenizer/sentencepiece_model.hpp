#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::tokenizing {

/// What a conversion needs of a SentencePiece model.
/// Source: sentencepiece, sentencepiece_model.proto.
struct sentencepiece_model {
  enum class kind : uint64_t { unigram = 1, bpe = 2, word = 3, character = 4 };
  enum class piece_type : uint64_t { normal = 1, unknown = 2, control = 3, user_defined = 4 };

  struct piece {
    std::string text; ///< UTF-8, not empty; no other piece has it.
    float score = 0;  ///< Finite.
    piece_type type = piece_type::normal;
  };

  std::vector<piece> pieces; ///< At least one; its place is a piece's id.
  kind model = kind::unigram;
  uint64_t unknown_id = 0; ///< Of one of the pieces.
  std::string unknown_text = "<unk>";
  std::string charsmap; ///< The normalizer's compiled rules; empty when it has none.
};

/// Reads a model's bytes; fields that nobody here needs are skipped.
/// @param file Named in errors.
/// Errors: ec::bad_model with the offset where the bytes stop making sense.
caf::expected<sentencepiece_model> read_sentencepiece(std::string_view bytes,
                                                      const std::filesystem::path& file);

} // namespace troupe::tokenizing

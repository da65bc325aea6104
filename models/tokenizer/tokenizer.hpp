#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "troupe/config/error.hpp"

struct tt_tokenizer;

namespace troupe {

class tokenizer;
struct tokenizer_settings;

/// A loaded tokenizer is immutable, so all threads share one.
using tokenizer_ptr = std::shared_ptr<const tokenizer>;

/// A token that has a role: its text, and its id when the vocabulary holds it.
struct special_token {
  std::string text; ///< Empty: the model has no such token.
  std::optional<int32_t> id;
  explicit operator bool() const { return !text.empty(); }
};

/// The roles that tokenizer_config.json and special_tokens_map.json give to tokens.
struct special_roles {
  special_token bos, eos, unk, sep, pad, cls, mask;
  std::vector<special_token> additional;
};

/// In which unit the offsets of an encoding count.
enum class offset_unit : uint8_t {
  none,       ///< No offsets: the fast path.
  bytes,      ///< UTF-8 bytes.
  characters, ///< Unicode code points, as Python counts.
};

struct encode_options {
  /// Let the post-processor add what the model expects (bos, eos, cls, sep). False for a rendered
  /// chat template, which carries its own.
  bool add_special = true;
  offset_unit offsets = offset_unit::none;
};

/// What a text or a pair of texts became. The vectors are parallel, [n]; `offsets` is empty unless
/// asked for.
struct encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;  ///< 0 for the first text, 1 for its pair, as the model wants it.
  std::vector<uint8_t> special;   ///< 1 where the post-processor added the token.
  std::vector<int32_t> sequences; ///< 0 or 1: which text; -1: neither.
  std::vector<int32_t> words;     ///< Index of the word in its text; -1: none.
  std::vector<std::pair<uint32_t, uint32_t>> offsets; ///< [begin, end) in the text it came from.
};

/// Text to token ids and back, equal to the Python package `tokenizers` with the same
/// tokenizer.json, and to transformers in what tokenizer_config.json adds (roles, bos/eos).
/// Threading: const means safe; every member may be called by any number of threads at once.
/// No member throws and no input crashes: text must be UTF-8 and may hold NULs.
class tokenizer {
public:
  /// Reads tokenizer.json, tokenizer_config.json and special_tokens_map.json of a model folder; the
  /// last two may be missing. As in transformers, tokenizer.json alone says which special tokens
  /// encoding adds, and tokens that only the other two know are appended to the vocabulary. Without
  /// a tokenizer.json one is made in memory of older files (conversion.hpp).
  /// Errors: ec::bad_model, naming the file and the remedy.
  static caf::expected<tokenizer_ptr> open(const std::filesystem::path& folder);

  /// As `open`, from the texts themselves. `config_json` is a tokenizer_config.json.
  static caf::expected<tokenizer_ptr> parse(std::string_view tokenizer_json,
                                            std::string_view config_json = "{}");

  tokenizer(const tokenizer&) = delete;
  tokenizer& operator=(const tokenizer&) = delete;
  ~tokenizer();

  /// Token ids of `text`. Errors: ec::invalid_request when `text` is not UTF-8.
  caf::expected<std::vector<int32_t>> encode(std::string_view text, bool add_special = true) const;

  /// Token ids of a pair of texts, joined as the post-processor says. Errors: as above.
  caf::expected<std::vector<int32_t>> encode(std::string_view text, std::string_view pair,
                                             bool add_special) const;

  /// Everything there is to know about the tokens of `text`. Errors: as above.
  caf::expected<encoding> encode_full(std::string_view text, const encode_options& options) const;
  caf::expected<encoding> encode_full(std::string_view text, std::string_view pair,
                                      const encode_options& options) const;

  /// Text of the whole sequence. Ids without a token (models pad their vocabulary) yield nothing;
  /// incomplete UTF-8 becomes U+FFFD. Never cleans up spaces: see `clean_up`. Errors:
  /// ec::invalid_request for negative ids.
  caf::expected<std::string> decode(const std::vector<int32_t>& ids,
                                    bool skip_special = true) const;

  /// The token as the vocabulary spells it ("Ġhello"); nothing when the id has no token.
  std::optional<std::string> id_to_token(int32_t id) const;
  std::optional<int32_t> token_to_id(std::string_view token) const;

  /// The bytes that the token stands for within a text (" hello"); not always UTF-8 by themselves.
  /// Empty when the id has no token. Valid as long as the tokenizer.
  std::string_view token_bytes(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= id_limit_)
      return {};
    return {bytes_ + starts_[id], starts_[id + 1] - starts_[id]};
  }

  /// `token_bytes` as text, U+FFFD in place of what is not UTF-8.
  std::string token_text(int32_t id) const;

  /// Whether `decode` leaves the token out when it skips special tokens. False for an id without
  /// one.
  bool is_special(int32_t id) const { return has_flag(id, 2); }
  bool has_token(int32_t id) const { return has_flag(id, 1); }

  /// Number of tokens, those added to the vocabulary included. Ids may have gaps: see `id_limit`.
  size_t vocab_size() const { return vocab_size_; }
  /// The highest id that has a token, plus 1.
  size_t id_limit() const { return id_limit_; }
  /// Bytes of the longest token; at least 1.
  size_t max_token_bytes() const { return max_token_bytes_; }

  /// A lower bound on the number of tokens of `text`, special ones not counted, in a time that
  /// encoding would take for a page: refuse what exceeds the context before encoding it. 0 where
  /// the kind of tokenizer allows no bound (one unknown token may stand for any number of bytes).
  size_t min_token_count(std::string_view text) const;

  const special_roles& roles() const { return roles_; }
  /// What transformers would cut at; nothing when unset or set to its "very large" marker.
  std::optional<size_t> model_max_length() const { return model_max_length_; }
  bool pads_left() const { return pads_left_; }
  /// tokenizer_config.json's clean_up_tokenization_spaces: whether whole-text decodes outside of
  /// text generation go through `clean_up`.
  bool cleans_up_spaces() const { return cleans_up_spaces_; }
  /// Removes spaces before punctuation and English contractions.
  /// Source: transformers, PreTrainedTokenizerBase.clean_up_tokenization.
  static std::string clean_up(std::string_view text);

  /// How the tokens of this vocabulary turn into text; `stream_decoder` works from it.
  enum class decoding : uint8_t {
    byte_level,    ///< Text is the tokens' bytes, end to end.
    byte_fallback, ///< The same, but a run of byte tokens stands or falls as one.
    general,       ///< Only the decoder of tokenizer.json knows.
  };
  decoding decodes_by() const { return decodes_by_; }
  /// byte_fallback: whether one leading space is dropped from a text.
  bool strips_first_space() const { return strips_first_space_; }
  /// Whether the token is a byte of byte_fallback ("<0x0A>").
  bool is_byte_token(int32_t id) const { return has_flag(id, 4); }

private:
  struct handle_deleter {
    void operator()(tt_tokenizer*) const;
  };
  using handle = std::unique_ptr<tt_tokenizer, handle_deleter>;

  bool has_flag(int32_t id, uint8_t flag) const {
    return id >= 0 && static_cast<size_t>(id) < id_limit_ && (flags_[id] & flag) != 0;
  }

  tokenizer(handle h, tokenizer_settings settings);
  static caf::expected<tokenizer_ptr> assemble(std::string_view json, const std::string& name,
                                               tokenizer_settings settings);

  handle handle_;                    ///< Owns what the pointers below point at.
  const char* bytes_ = nullptr;      ///< All tokens' bytes, end to end.
  const uint32_t* starts_ = nullptr; ///< Into bytes_, [id_limit + 1].
  const uint8_t* flags_ = nullptr;   ///< [id_limit] 1 has a token, 2 is special, 4 is a byte token.
  size_t id_limit_ = 0;
  size_t vocab_size_ = 0;
  size_t max_token_bytes_ = 1;
  /// Tokens that a byte of a text accounts for at least, in fixed point; 0: none. `changed_` holds
  /// for bytes that a normalizer may change.
  std::array<uint32_t, 256> kept_weight_{};
  std::array<uint32_t, 256> changed_weight_{};
  bool normalizes_ = false;
  decoding decodes_by_ = decoding::general;
  bool strips_first_space_ = false;
  special_roles roles_;
  std::optional<size_t> model_max_length_;
  bool pads_left_ = false;
  bool cleans_up_spaces_ = false;
};

} // namespace troupe

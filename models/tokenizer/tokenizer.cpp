#include "troupe/models/tokenizer/tokenizer.hpp"

#include <algorithm>

#include "troupe/models/tokenizer/conversion.hpp"
#include "troupe/models/tokenizer/files.hpp"
#include "troupe/models/tokenizer/rust.hpp"
#include "troupe/models/tokenizer/settings.hpp"
#include "troupe/models/tokenizer/utf8.hpp"

namespace troupe {

using tokenizing::rust_string;
using tokenizing::slice;

namespace {

struct encoding_deleter {
  void operator()(tt_encoding* e) const { tt_encoding_free(e); }
};
using encoding_handle = std::unique_ptr<tt_encoding, encoding_deleter>;

caf::expected<encoding_handle> run_encode(tt_tokenizer* t, std::string_view text,
                                          const std::string_view* pair, uint32_t flags) {
  tt_encoding* raw = nullptr;
  rust_string err;
  tt_slice second{};
  if (pair)
    second = slice(*pair);
  auto code = tt_encode(t, slice(text), pair ? &second : nullptr, flags, &raw, err.out());
  encoding_handle result{raw};
  if (code == TT_BAD_INPUT)
    return caf::make_error(ec::invalid_request, err.str());
  if (code != 0)
    return caf::make_error(ec::invalid_request, "cannot encode the text: " + err.str());
  return result;
}

caf::expected<std::vector<int32_t>> encode_ids(tt_tokenizer* t, std::string_view text,
                                               const std::string_view* pair, bool add_special) {
  auto result = run_encode(t, text, pair, add_special ? TT_ADD_SPECIAL : 0);
  if (!result)
    return result.error();
  tt_encoding_view view;
  tt_encoding_look(result->get(), &view);
  return std::vector<int32_t>(view.ids, view.ids + view.size);
}

caf::expected<encoding> encode_all(tt_tokenizer* t, std::string_view text,
                                   const std::string_view* pair, const encode_options& options) {
  uint32_t flags = TT_DETAILS;
  if (options.add_special)
    flags |= TT_ADD_SPECIAL;
  if (options.offsets == offset_unit::bytes)
    flags |= TT_BYTE_OFFSETS;
  if (options.offsets == offset_unit::characters)
    flags |= TT_CHAR_OFFSETS;
  auto result = run_encode(t, text, pair, flags);
  if (!result)
    return result.error();
  tt_encoding_view view;
  tt_encoding_look(result->get(), &view);
  encoding out;
  auto n = view.size;
  out.ids.assign(view.ids, view.ids + n);
  out.type_ids.assign(view.type_ids, view.type_ids + n);
  out.special.assign(view.special, view.special + n);
  out.sequences.assign(view.sequences, view.sequences + n);
  out.words.assign(view.words, view.words + n);
  if (view.offsets)
    for (size_t i = 0; i < n; ++i)
      out.offsets.emplace_back(view.offsets[2 * i], view.offsets[2 * i + 1]);
  return out;
}

} // namespace

void tokenizer::handle_deleter::operator()(tt_tokenizer* t) const {
  tt_tokenizer_free(t);
}

tokenizer::tokenizer(handle h, tokenizer_settings settings)
    : handle_(std::move(h)), roles_(std::move(settings.roles)),
      model_max_length_(settings.model_max_length), pads_left_(settings.pads_left),
      cleans_up_spaces_(settings.cleans_up_spaces) {
  tt_tables tables;
  tt_tokenizer_tables(handle_.get(), &tables);
  bytes_ = tables.bytes;
  starts_ = tables.starts;
  flags_ = tables.flags;
  id_limit_ = tables.limit;
  vocab_size_ = tables.tokens;
  max_token_bytes_ = std::max<size_t>(1, tables.max_bytes);
  std::copy(std::begin(tables.weights.kept), std::end(tables.weights.kept), kept_weight_.begin());
  std::copy(std::begin(tables.weights.changed), std::end(tables.weights.changed),
            changed_weight_.begin());
  normalizes_ = tables.weights.normalizes != 0;
  decodes_by_ = static_cast<decoding>(tables.decoding);
  strips_first_space_ = tables.strips_first != 0;
  auto find = [this](special_token& t) {
    if (t)
      t.id = token_to_id(t.text);
  };
  for (auto* t :
       {&roles_.bos, &roles_.eos, &roles_.unk, &roles_.sep, &roles_.pad, &roles_.cls, &roles_.mask})
    find(*t);
  std::for_each(roles_.additional.begin(), roles_.additional.end(), find);
}

tokenizer::~tokenizer() = default;

caf::expected<tokenizer_ptr> tokenizer::assemble(std::string_view json, const std::string& name,
                                                 tokenizer_settings settings) {
  tt_tokenizer* raw = nullptr;
  rust_string err;
  auto code = tt_tokenizer_parse(slice(json), slice(settings.added_tokens), &raw, err.out());
  handle h{raw};
  if (code != 0)
    return caf::make_error(ec::bad_model, name +
                                              " is not a tokenizer that Hugging Face's "
                                              "tokenizers can load: " +
                                              err.str());
  return tokenizer_ptr{new tokenizer(std::move(h), std::move(settings))};
}

caf::expected<tokenizer_ptr> tokenizer::open(const std::filesystem::path& folder) {
  auto config_path = folder / "tokenizer_config.json";
  auto config = tokenizing::read_text_if_there(config_path);
  if (!config)
    return config.error();
  auto map_path = folder / "special_tokens_map.json";
  auto map = tokenizing::read_text_if_there(map_path);
  if (!map)
    return map.error();
  auto path = folder / "tokenizer.json";
  auto name = path.string();
  std::string json;
  std::error_code failed;
  if (std::filesystem::exists(path, failed)) {
    auto text = tokenizing::read_text(path);
    if (!text)
      return text.error();
    json = std::move(*text);
  } else {
    auto older = tokenizing::convert(folder, *config, *map);
    if (!older)
      return older.error();
    json = std::move(older->json);
    *config = std::move(older->config);
    name = "what was made of " + older->source;
  }
  auto settings = tokenizing::read_settings(*config, config_path.string(), *map, map_path.string());
  if (!settings)
    return settings.error();
  return assemble(json, name, std::move(*settings));
}

caf::expected<tokenizer_ptr> tokenizer::parse(std::string_view tokenizer_json,
                                              std::string_view config_json) {
  auto settings = tokenizing::read_settings(config_json, "tokenizer_config.json", {}, {});
  if (!settings)
    return settings.error();
  return assemble(tokenizer_json, "tokenizer.json", std::move(*settings));
}

caf::expected<std::vector<int32_t>> tokenizer::encode(std::string_view text,
                                                      bool add_special) const {
  return encode_ids(handle_.get(), text, nullptr, add_special);
}

caf::expected<std::vector<int32_t>> tokenizer::encode(std::string_view text, std::string_view pair,
                                                      bool add_special) const {
  return encode_ids(handle_.get(), text, &pair, add_special);
}

caf::expected<encoding> tokenizer::encode_full(std::string_view text,
                                               const encode_options& options) const {
  return encode_all(handle_.get(), text, nullptr, options);
}

caf::expected<encoding> tokenizer::encode_full(std::string_view text, std::string_view pair,
                                               const encode_options& options) const {
  return encode_all(handle_.get(), text, &pair, options);
}

caf::expected<std::string> tokenizer::decode(const std::vector<int32_t>& ids,
                                             bool skip_special) const {
  std::vector<uint32_t> raw(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0)
      return caf::make_error(ec::invalid_request, "token " + std::to_string(i) + " is " +
                                                      std::to_string(ids[i]) +
                                                      ", but ids are not negative");
    raw[i] = static_cast<uint32_t>(ids[i]);
  }
  rust_string text, err;
  if (tt_decode(handle_.get(), raw.data(), raw.size(), skip_special, text.out(), err.out()) != 0)
    return caf::make_error(ec::invalid_request, "cannot decode the tokens: " + err.str());
  return text.str();
}

std::optional<std::string> tokenizer::id_to_token(int32_t id) const {
  rust_string text;
  if (id < 0 || tt_id_to_token(handle_.get(), static_cast<uint32_t>(id), text.out()) == 0)
    return std::nullopt;
  return text.str();
}

std::optional<int32_t> tokenizer::token_to_id(std::string_view token) const {
  uint32_t id = 0;
  if (tt_token_to_id(handle_.get(), slice(token), &id) == 0)
    return std::nullopt;
  return static_cast<int32_t>(id);
}

std::string tokenizer::token_text(int32_t id) const {
  std::string out;
  utf8::append_valid(out, token_bytes(id));
  return out;
}

size_t tokenizer::min_token_count(std::string_view text) const {
  uint64_t sum = 0;
  if (normalizes_) {
    for (size_t i = 0; i < text.size(); ++i) {
      auto c = static_cast<unsigned char>(text[i]);
      bool kept =
          i + 1 < text.size() && ((c | static_cast<unsigned char>(text[i + 1])) & 0x80) == 0;
      sum += kept ? kept_weight_[c] : changed_weight_[c];
    }
  } else {
    for (unsigned char c : text)
      sum += kept_weight_[c];
  }
  return (sum + TT_WEIGHT_UNIT - 1) / TT_WEIGHT_UNIT;
}

std::string tokenizer::clean_up(std::string_view text) {
  static constexpr std::pair<std::string_view, std::string_view> changes[] = {
      {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
      {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  std::string out{text};
  for (auto& [from, to] : changes) {
    std::string next;
    size_t done = 0;
    for (auto at = out.find(from); at != std::string::npos; at = out.find(from, done)) {
      next.append(out, done, at - done).append(to);
      done = at + from.size();
    }
    out = next.append(out, done);
  }
  return out;
}

} // namespace troupe

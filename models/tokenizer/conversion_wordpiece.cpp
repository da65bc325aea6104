#include <algorithm>

#include "troupe/models/tokenizer/conversion_classes.hpp"
#include "troupe/models/tokenizer/files.hpp"
#include "troupe/models/tokenizer/utf8.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

/// One token a line; its number is its id. Of two equal lines the later counts, as in transformers.
caf::expected<vocabulary> read_lines(const fs::path& path) {
  auto text = read_text(path, max_vocabulary_bytes);
  if (!text)
    return text.error();
  vocabulary out;
  std::string_view rest = *text;
  for (size_t number = 0; !rest.empty(); ++number) {
    if (number == max_vocabulary)
      return unconvertible(path, "has more than " + std::to_string(max_vocabulary) + " lines");
    // Python reads "\r" and "\r\n" as ends of lines, too.
    const auto end = std::min(rest.find_first_of("\r\n"), rest.size());
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end);
    rest.remove_prefix(rest.starts_with("\r\n") ? 2 : std::min<size_t>(1, rest.size()));
    std::string valid;
    utf8::append_valid(valid, line);
    if (valid != line)
      return unconvertible(path, "line " + std::to_string(number + 1) + " is not UTF-8");
    out.set(std::move(valid), static_cast<uint32_t>(number));
  }
  if (out.size() == 0)
    return unconvertible(path, "is empty");
  return out;
}

} // namespace

caf::expected<converted> convert_bert(older_settings settings) {
  for (auto [role, text] : {std::pair{"unk_token", "[UNK]"},
                            {"sep_token", "[SEP]"},
                            {"pad_token", "[PAD]"},
                            {"cls_token", "[CLS]"},
                            {"mask_token", "[MASK]"}})
    settings.role_by_default(role, text);
  const auto source = settings.folder() / "vocab.txt";
  std::error_code ignored;
  if (!fs::exists(source, ignored))
    return unconvertible(source, "is missing, and there is no tokenizer.json either");
  auto words = read_lines(source);
  if (!words)
    return words.error();
  auto made = assembly::of(settings, *words, {}, source);
  if (!made)
    return made.error();
  const auto cls = settings.text_of("cls_token"), sep = settings.text_of("sep_token");
  auto post_processor = made->joined_by({{cls, 0}, {"$A", 0}, {sep, 0}},
                                        {{cls, 0}, {"$A", 0}, {sep, 0}, {"$B", 1}, {sep, 1}});
  if (!post_processor)
    return post_processor.error();
  auto model = part("WordPiece");
  model["unk_token"] = settings.text_of("unk_token");
  model["continuing_subword_prefix"] = "##";
  model["max_input_chars_per_word"] = 100;
  model["vocab"] = words->as_json();
  auto normalizer = part("BertNormalizer");
  normalizer["clean_text"] = true;
  normalizer["handle_chinese_chars"] = settings.flag("tokenize_chinese_chars", true);
  normalizer["lowercase"] = settings.flag("do_lower_case", true);
  // Left open, it follows `lowercase`.
  normalizer["strip_accents"] = nullptr;
  if (auto accents = settings.config().if_contains("strip_accents"); accents && accents->is_bool())
    normalizer["strip_accents"] = accents->get_bool();
  auto decoder = part("WordPiece");
  decoder["prefix"] = "##";
  decoder["cleanup"] = true;
  return converted{made->text(std::move(model), std::move(normalizer), part("BertPreTokenizer"),
                              std::move(*post_processor), std::move(decoder)),
                   json::serialize(settings.config()), source.string()};
}

} // namespace troupe::tokenizing

#include <unordered_set>

#include "troupe/models/tokenizer/conversion_classes.hpp"
#include "troupe/models/tokenizer/files.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

/// vocab.json and merges.txt.
struct byte_level_files {
  fs::path source;
  vocabulary words;
  json::array merges;
};

caf::expected<vocabulary> read_vocabulary(const fs::path& path) {
  auto text = read_text(path, max_vocabulary_bytes);
  if (!text)
    return text.error();
  auto object = read_object(*text, path);
  if (!object)
    return object.error();
  if (object->empty() || object->size() > max_vocabulary)
    return unconvertible(path, "has " + std::to_string(object->size()) + " tokens; from 1 to " +
                                   std::to_string(max_vocabulary) + " are read");
  vocabulary out;
  std::unordered_map<int64_t, json::string_view> texts;
  for (const auto& item : *object) {
    const auto* id = item.value().if_int64();
    const auto name = std::string{item.key().substr(0, 80)};
    if (id == nullptr || *id < 0 || *id >= static_cast<int64_t>(2 * max_vocabulary))
      return unconvertible(path, "gives the token \"" + name + "\" an id that is no whole number " +
                                     "from 0 to " + std::to_string(2 * max_vocabulary - 1));
    auto [other, fresh] = texts.emplace(*id, item.key());
    if (!fresh)
      return unconvertible(path, "gives the id " + std::to_string(*id) + " to both \"" +
                                     std::string{other->second.substr(0, 80)} + "\" and \"" + name +
                                     "\"");
    out.set(std::string{item.key()}, static_cast<uint32_t>(*id));
  }
  return out;
}

/// One merge a line, the more frequent first; a first line may tell the version.
caf::expected<json::array> read_merges(const fs::path& path, const vocabulary& words) {
  auto text = read_text(path, max_vocabulary_bytes);
  if (!text)
    return text.error();
  json::array out;
  std::unordered_set<std::string_view> seen;
  std::string_view rest = *text;
  for (size_t number = 1; !rest.empty(); ++number) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version")))
      continue;
    auto wrong = [&](const std::string& what) {
      return unconvertible(path, "line " + std::to_string(number) + " " + what);
    };
    const auto space = line.find(' ');
    const auto left = line.substr(0, space);
    const auto right = space == line.npos ? std::string_view{} : line.substr(space + 1);
    if (left.empty() || right.empty() || right.find(' ') != right.npos)
      return wrong("does not hold two parts with a space between them");
    for (const auto& piece : {std::string{left}, std::string{right}, std::string{left} += right})
      if (!words.id_of(piece))
        return wrong("speaks of \"" + piece.substr(0, 80) +
                     "\", which vocab.json does not know: the files do not belong together");
    // The first of two equal merges counts, as in transformers.
    if (!seen.insert(line).second)
      continue;
    if (out.size() == max_merges)
      return wrong("is one too many: " + std::to_string(max_merges) + " merges are read");
    json::array merge;
    merge.emplace_back(json::string_view{left.data(), left.size()});
    merge.emplace_back(json::string_view{right.data(), right.size()});
    out.push_back(std::move(merge));
  }
  return out;
}

caf::expected<byte_level_files> read_files(const fs::path& folder) {
  byte_level_files out;
  out.source = folder / "vocab.json";
  std::error_code ignored;
  for (const auto* name : {"vocab.json", "merges.txt"})
    if (!fs::exists(folder / name, ignored))
      return unconvertible(folder / name, "is missing, and there is no tokenizer.json either");
  auto words = read_vocabulary(out.source);
  if (!words)
    return words.error();
  out.words = std::move(*words);
  auto merges = read_merges(folder / "merges.txt", out.words);
  if (!merges)
    return merges.error();
  out.merges = std::move(*merges);
  return out;
}

json::object model_of(byte_level_files& files) {
  auto model = part("BPE");
  model["dropout"] = nullptr;
  model["unk_token"] = nullptr;
  model["continuing_subword_prefix"] = "";
  model["end_of_word_suffix"] = "";
  model["fuse_unk"] = false;
  model["byte_fallback"] = false;
  model["vocab"] = files.words.as_json();
  model["merges"] = std::move(files.merges);
  return model;
}

json::object byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  auto out = part("ByteLevel");
  out["add_prefix_space"] = add_prefix_space;
  out["trim_offsets"] = trim_offsets;
  out["use_regex"] = use_regex;
  return out;
}

} // namespace

caf::expected<converted> convert_gpt2(older_settings settings) {
  for (const auto* role : {"bos_token", "eos_token", "unk_token"})
    settings.role_by_default(role, "<|endoftext|>");
  auto files = read_files(settings.folder());
  if (!files)
    return files.error();
  auto made = assembly::of(settings, files->words, {}, files->source);
  if (!made)
    return made.error();
  auto post_processor = byte_level(true, false, true);
  if (settings.flag("add_bos_token", false)) {
    const auto bos = settings.text_of("bos_token");
    auto joined = made->joined_by({{bos, 0}, {"$A", 0}}, {{bos, 0}, {"$A", 0}, {"$B", 1}});
    if (!joined)
      return joined.error();
    post_processor = std::move(*joined);
  }
  const bool prefix = settings.flag("add_prefix_space", false);
  return converted{made->text(model_of(*files), nullptr, byte_level(prefix, true, true),
                              std::move(post_processor), byte_level(true, true, true)),
                   json::serialize(settings.config()), files->source.string()};
}

caf::expected<converted> convert_roberta(older_settings settings) {
  settings.fairseq_roles_by_default();
  auto files = read_files(settings.folder());
  if (!files)
    return files.error();
  auto made = assembly::of(settings, files->words, {}, files->source);
  if (!made)
    return made.error();
  const bool prefix = settings.flag("add_prefix_space", false);
  auto around = part("RobertaProcessing");
  for (auto [name, role] : {std::pair{"sep", "sep_token"}, {"cls", "cls_token"}}) {
    const auto text = settings.text_of(role);
    const auto id = made->id_of(text);
    if (!id)
      return unconvertible(files->source, std::string{"has no "} + role +
                                              ", which its class puts around every text");
    json::array token;
    token.emplace_back(text);
    token.emplace_back(*id);
    around[name] = std::move(token);
  }
  around["trim_offsets"] = settings.flag("trim_offsets", true);
  around["add_prefix_space"] = prefix;
  return converted{made->text(model_of(*files), nullptr, byte_level(prefix, true, true),
                              std::move(around), byte_level(true, true, true)),
                   json::serialize(settings.config()), files->source.string()};
}

caf::expected<converted> convert_qwen2(older_settings settings) {
  for (const auto* role : {"unk_token", "eos_token", "pad_token"})
    settings.role_by_default(role, "<|endoftext|>");
  auto files = read_files(settings.folder());
  if (!files)
    return files.error();
  auto made = assembly::of(settings, files->words, {}, files->source);
  if (!made)
    return made.error();
  auto split = part("Split");
  json::object pattern;
  pattern["Regex"] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  split["pattern"] = std::move(pattern);
  split["behavior"] = "Isolated";
  split["invert"] = false;
  json::array steps;
  steps.push_back(std::move(split));
  steps.push_back(byte_level(settings.flag("add_prefix_space", false), true, false));
  return converted{made->text(model_of(*files), part("NFC"),
                              sequence("pretokenizers", std::move(steps)),
                              byte_level(true, false, true), byte_level(true, true, true)),
                   json::serialize(settings.config()), files->source.string()};
}

} // namespace troupe::tokenizing

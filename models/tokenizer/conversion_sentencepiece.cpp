#include <algorithm>
#include <tuple>

#include "troupe/models/tokenizer/conversion_classes.hpp"
#include "troupe/models/tokenizer/files.hpp"
#include "troupe/models/tokenizer/sentencepiece_model.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

using kind = sentencepiece_model::kind;
using piece_type = sentencepiece_model::piece_type;

constexpr auto metaspace = "\u2581";

/// Published ones have 5 MB; the search for merges takes seconds with the worst file of this size.
constexpr size_t max_model_bytes = size_t{16} << 20;

struct sentencepiece_file {
  fs::path source;
  sentencepiece_model model;
};

/// Reads the first of the names that is there, and refuses another algorithm than `wanted`.
caf::expected<sentencepiece_file> read_file(const fs::path& folder, kind wanted,
                                            std::initializer_list<const char*> names) {
  sentencepiece_file out;
  std::error_code ignored;
  for (const auto* name : names)
    if (out.source.empty() && fs::exists(folder / name, ignored))
      out.source = folder / name;
  if (out.source.empty())
    return unconvertible(folder / *names.begin(),
                         "is missing, and there is no tokenizer.json either");
  auto bytes = read_text(out.source, max_model_bytes);
  if (!bytes)
    return bytes.error();
  auto model = read_sentencepiece(*bytes, out.source);
  if (!model)
    return model.error();
  out.model = std::move(*model);
  if (out.model.model != wanted)
    return unconvertible(out.source, "is a model of kind " +
                                         std::to_string(static_cast<uint64_t>(out.model.model)) +
                                         ", but its tokenizer_class wants " +
                                         (wanted == kind::bpe ? "BPE (2)" : "Unigram (1)"));
  return out;
}

/// Control and user-defined pieces are found before the model sees a text.
std::vector<added_token> added_by(const sentencepiece_model& model) {
  std::vector<added_token> out;
  for (const auto& p : model.pieces) {
    if (p.type != piece_type::control && p.type != piece_type::user_defined)
      continue;
    added_token t;
    t.text = p.text;
    t.special = p.type == piece_type::control;
    out.push_back(std::move(t));
  }
  return out;
}

/// Two pieces that make up a third; compared as transformers sorts them.
struct merge {
  std::string_view left, right;
  float score = 0;
  uint32_t left_id = 0, right_id = 0;
  uint32_t left_size = 0, right_size = 0; ///< In characters.
};

bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0u) == 0x80u;
}

/// Every way to make a piece of two others, best first.
/// Source: transformers, convert_slow_tokenizer.py, generate_merges.
caf::expected<json::array> merges_of(const sentencepiece_model& model, const vocabulary& known,
                                     const fs::path& source) {
  std::vector<merge> found;
  for (const auto& p : model.pieces) {
    const std::string_view whole = p.text;
    const auto characters = static_cast<uint32_t>(
        whole.size() - std::count_if(whole.begin(), whole.end(), continues_character));
    const auto begin = static_cast<std::ptrdiff_t>(found.size());
    uint32_t before = 1;
    for (size_t at = 1; at < whole.size(); ++at) {
      if (continues_character(whole[at]))
        continue;
      const auto left = whole.substr(0, at), right = whole.substr(at);
      const auto left_id = known.id_of(left), right_id = known.id_of(right);
      if (left_id && right_id)
        found.push_back({left, right, p.score, *left_id, *right_id, before, characters - before});
      ++before;
    }
    if (found.size() > max_merges)
      return unconvertible(source, "has pieces that make more than " + std::to_string(max_merges) +
                                       " merges");
    std::sort(found.begin() + begin, found.end(), [](const merge& a, const merge& b) {
      return std::pair{a.left_id, a.right_id} < std::pair{b.left_id, b.right_id};
    });
  }
  std::stable_sort(found.begin(), found.end(), [](const merge& a, const merge& b) {
    return std::tuple{a.score, a.left_size, a.right_size} >
           std::tuple{b.score, b.left_size, b.right_size};
  });
  json::array out;
  out.reserve(found.size());
  for (const auto& m : found) {
    json::array pair;
    pair.emplace_back(json::string_view{m.left.data(), m.left.size()});
    pair.emplace_back(json::string_view{m.right.data(), m.right.size()});
    out.push_back(std::move(pair));
  }
  return out;
}

json::object replacing(json::value pattern, const char* content) {
  auto out = part("Replace");
  out["pattern"] = std::move(pattern);
  out["content"] = content;
  return out;
}

json::object plain(const char* text) {
  json::object out;
  out["String"] = text;
  return out;
}

json::object metaspace_part(const char* scheme, bool split) {
  auto out = part("Metaspace");
  out["replacement"] = metaspace;
  out["prepend_scheme"] = scheme;
  out["split"] = split;
  return out;
}

json::array& additional_tokens(older_settings& settings) {
  auto& listed = settings.config()["additional_special_tokens"];
  return listed.is_array() ? listed.get_array() : listed.emplace_array();
}

const char* prepend_scheme(bool prefix, bool legacy) {
  return !prefix ? "never" : legacy ? "always" : "first";
}

/// Bos and eos as the class's flags want them. Source: LlamaTokenizerFast.update_post_processor.
caf::expected<json::object> llama_template(const older_settings& settings, const assembly& made) {
  const auto bos = settings.text_of("bos_token"), eos = settings.text_of("eos_token");
  const bool adds_bos = settings.flag("add_bos_token", true);
  const bool adds_eos = settings.flag("add_eos_token", false);
  std::vector<template_piece> single, pair;
  for (int type = 0; type < 2; ++type) {
    if (adds_bos)
      pair.push_back({bos, type});
    pair.push_back({type == 0 ? "$A" : "$B", type});
    if (adds_eos)
      pair.push_back({eos, type});
    if (type == 0)
      single = pair;
  }
  return made.joined_by(single, pair);
}

json::object llama_decoder(bool prefix) {
  json::array steps;
  steps.push_back(replacing(plain(metaspace), " "));
  steps.push_back(part("ByteFallback"));
  steps.push_back(part("Fuse"));
  if (prefix) {
    auto strip = part("Strip");
    strip["content"] = " ";
    strip["start"] = 1;
    strip["stop"] = 0;
    steps.push_back(std::move(strip));
  }
  return sequence("decoders", std::move(steps));
}

/// What SpmConverter makes of a normalizer's rules.
json::object unigram_normalizer(const std::string& charsmap) {
  json::array steps;
  if (!charsmap.empty()) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (size_t i = 0; i < charsmap.size(); i += 3) {
      const auto left = std::min<size_t>(3, charsmap.size() - i);
      uint32_t bits = 0;
      for (size_t k = 0; k < 3; ++k)
        bits = bits << 8 | (k < left ? static_cast<unsigned char>(charsmap[i + k]) : 0u);
      for (size_t k = 0; k < 4; ++k)
        text += k <= left ? digits[bits >> (18 - 6 * k) & 63u] : '=';
    }
    auto compiled = part("Precompiled");
    compiled["precompiled_charsmap"] = text;
    steps.push_back(std::move(compiled));
  }
  auto strip = part("Strip");
  strip["strip_left"] = false;
  strip["strip_right"] = true;
  steps.push_back(std::move(strip));
  json::object runs;
  runs["Regex"] = " {2,}";
  steps.push_back(replacing(std::move(runs), metaspace));
  return sequence("normalizers", std::move(steps));
}

/// A Unigram model's texts in the order of their ids.
class unigram_words {
public:
  /// Errors: ec::bad_model when the text is there already.
  caf::error add(const std::string& text, double score, const fs::path& source) {
    if (known.id_of(text))
      return unconvertible(source, "has the piece \"" + text.substr(0, 80) +
                                       "\", which its class adds to it");
    known.set(text, static_cast<uint32_t>(known.size()));
    json::array entry;
    entry.emplace_back(text);
    entry.emplace_back(score);
    list.push_back(std::move(entry));
    return {};
  }

  json::object model(uint64_t unknown) && {
    auto out = part("Unigram");
    out["unk_id"] = unknown;
    out["vocab"] = std::move(list);
    out["byte_fallback"] = false;
    return out;
  }

  vocabulary known;
  json::array list;
};

} // namespace

caf::expected<converted> convert_llama(older_settings settings) {
  for (auto [role, text] :
       {std::pair{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}})
    settings.role_by_default(role, text);
  auto file = read_file(settings.folder(), kind::bpe, {"tokenizer.model"});
  if (!file)
    return file.error();
  vocabulary words;
  for (size_t i = 0; i < file->model.pieces.size(); ++i)
    words.set(file->model.pieces[i].text, static_cast<uint32_t>(i));
  auto merges = merges_of(file->model, words, file->source);
  if (!merges)
    return merges.error();
  auto made = assembly::of(settings, words, added_by(file->model), file->source);
  if (!made)
    return made.error();
  const bool legacy = settings.flag("legacy", true);
  const bool prefix = settings.flag("add_prefix_space", true);
  json::value normalizer, pre_tokenizer;
  if (legacy) {
    json::array steps;
    if (prefix) {
      auto prepend = part("Prepend");
      prepend["prepend"] = metaspace;
      steps.push_back(std::move(prepend));
    }
    steps.push_back(replacing(plain(" "), metaspace));
    normalizer = sequence("normalizers", std::move(steps));
  } else {
    pre_tokenizer = metaspace_part(prepend_scheme(prefix, legacy), false);
  }
  auto post_processor = llama_template(settings, *made);
  if (!post_processor)
    return post_processor.error();
  auto model = part("BPE");
  model["dropout"] = nullptr;
  model["unk_token"] = file->model.unknown_text;
  model["continuing_subword_prefix"] = nullptr;
  model["end_of_word_suffix"] = nullptr;
  model["fuse_unk"] = true;
  model["byte_fallback"] = true;
  model["vocab"] = words.as_json();
  model["merges"] = std::move(*merges);
  return converted{made->text(std::move(model), std::move(normalizer), std::move(pre_tokenizer),
                              std::move(*post_processor), llama_decoder(prefix)),
                   json::serialize(settings.config()), file->source.string()};
}

caf::expected<converted> convert_code_llama(older_settings settings) {
  auto& listed = additional_tokens(settings);
  for (auto [role, text] : {std::pair{"prefix_token", "\u2581<PRE>"},
                            {"middle_token", "\u2581<MID>"},
                            {"suffix_token", "\u2581<SUF>"},
                            {"eot_token", "\u2581<EOT>"}}) {
    auto named = settings.config().if_contains(role);
    if (named == nullptr)
      listed.emplace_back(text);
    else if (!named->is_null())
      listed.emplace_back(*named);
  }
  // This class knows neither key.
  settings.config()["legacy"] = true;
  settings.config()["add_prefix_space"] = true;
  return convert_llama(std::move(settings));
}

caf::expected<converted> convert_t5(older_settings settings) {
  for (auto [role, text] :
       {std::pair{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}})
    settings.role_by_default(role, text);
  int64_t extra_ids = 100;
  if (auto v = settings.config().if_contains("extra_ids"); v && v->is_int64())
    extra_ids = v->get_int64();
  if (extra_ids < 0 || extra_ids > 100'000)
    return unconvertible(settings.folder() / "tokenizer_config.json",
                         "has extra_ids=" + std::to_string(extra_ids) +
                             ", which is no number from 0 to 100000");
  auto file = read_file(settings.folder(), kind::unigram, {"spiece.model", "tokenizer.model"});
  if (!file)
    return file.error();
  unigram_words words;
  for (const auto& p : file->model.pieces)
    if (auto failed = words.add(p.text, p.score, file->source))
      return failed;
  auto& listed = additional_tokens(settings);
  // Where the folder lists some of them itself, it lists them all.
  const bool names_them = json::serialize(listed).find("<extra_id_") != std::string::npos;
  for (int64_t i = extra_ids; i-- > 0;)
    if (auto failed = words.add("<extra_id_" + std::to_string(i) + ">", 0, file->source))
      return failed;
  for (int64_t i = 0; i < extra_ids && !names_them; ++i)
    listed.emplace_back("<extra_id_" + std::to_string(i) + ">");
  auto made = assembly::of(settings, words.known, added_by(file->model), file->source);
  if (!made)
    return made.error();
  auto post_processor =
      made->joined_by({{"$A", 0}, {"</s>", 0}}, {{"$A", 0}, {"</s>", 0}, {"$B", 0}, {"</s>", 0}});
  if (!post_processor)
    return post_processor.error();
  const auto* scheme =
      prepend_scheme(settings.flag("add_prefix_space", true), settings.flag("legacy", true));
  return converted{made->text(std::move(words).model(file->model.unknown_id),
                              unigram_normalizer(file->model.charsmap),
                              metaspace_part(scheme, true), std::move(*post_processor),
                              metaspace_part(scheme, true)),
                   json::serialize(settings.config()), file->source.string()};
}

caf::expected<converted> convert_xlm_roberta(older_settings settings) {
  settings.fairseq_roles_by_default();
  auto file =
      read_file(settings.folder(), kind::unigram, {"sentencepiece.bpe.model", "tokenizer.model"});
  if (!file)
    return file.error();
  // Fairseq's order: four tokens in the place of the model's first three, and one behind.
  unigram_words words;
  constexpr uint64_t unknown = 3;
  for (const auto* text : {"<s>", "<pad>", "</s>", "<unk>"})
    if (auto failed = words.add(text, 0, file->source))
      return failed;
  for (size_t i = 3; i < file->model.pieces.size(); ++i) {
    const auto& p = file->model.pieces[i];
    if (auto failed = words.add(p.text, p.score, file->source))
      return failed;
  }
  if (auto failed = words.add("<mask>", 0, file->source))
    return failed;
  auto made = assembly::of(settings, words.known, added_by(file->model), file->source);
  if (!made)
    return made.error();
  auto post_processor =
      made->joined_by({{"<s>", 0}, {"$A", 0}, {"</s>", 0}},
                      {{"<s>", 0}, {"$A", 0}, {"</s>", 0}, {"</s>", 0}, {"$B", 0}, {"</s>", 0}});
  if (!post_processor)
    return post_processor.error();
  return converted{made->text(std::move(words).model(unknown),
                              unigram_normalizer(file->model.charsmap),
                              metaspace_part("always", true), std::move(*post_processor),
                              metaspace_part("always", true)),
                   json::serialize(settings.config()), file->source.string()};
}

} // namespace troupe::tokenizing

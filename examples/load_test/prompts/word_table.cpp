#include "troupe/examples/load_test/prompts/word_table.hpp"

#include <algorithm>
#include <array>

#include "troupe/config/error.hpp"

namespace troupe::load_test {

namespace {

/// Common enough that most vocabularies hold each as one token, with and without a space in front.
constexpr auto common_words = std::to_array<std::string_view>({
    "the",         "and",      "that",        "have",       "for",       "not",      "with",
    "you",         "this",     "but",         "from",       "they",      "say",      "her",
    "she",         "will",     "one",         "all",        "would",     "there",    "their",
    "what",        "out",      "about",       "who",        "get",       "which",    "when",
    "make",        "can",      "like",        "time",       "just",      "him",      "know",
    "take",        "people",   "into",        "year",       "your",      "good",     "some",
    "could",       "them",     "see",         "other",      "than",      "then",     "now",
    "look",        "only",     "come",        "its",        "over",      "think",    "also",
    "back",        "after",    "use",         "two",        "how",       "our",      "work",
    "first",       "well",     "way",         "even",       "new",       "want",     "because",
    "any",         "these",    "give",        "day",        "most",      "find",     "here",
    "thing",       "many",     "world",       "life",       "part",      "hand",     "high",
    "place",       "small",    "large",       "next",       "early",     "young",    "important",
    "few",         "public",   "same",        "able",       "water",     "room",     "mother",
    "area",        "money",    "story",       "fact",       "month",     "right",    "study",
    "book",        "eye",      "job",         "word",       "business",  "issue",    "side",
    "kind",        "head",     "house",       "service",    "friend",    "father",   "power",
    "hour",        "game",     "line",        "end",        "member",    "law",      "car",
    "city",        "name",     "president",   "team",       "minute",    "idea",     "body",
    "information", "parent",   "face",        "others",     "level",     "office",   "door",
    "health",      "person",   "art",         "war",        "history",   "party",    "result",
    "change",      "morning",  "reason",      "research",   "girl",      "guy",      "moment",
    "air",         "teacher",  "force",       "education",  "foot",      "boy",      "age",
    "policy",      "process",  "music",       "market",     "sense",     "nation",   "plan",
    "college",     "interest", "death",       "experience", "effect",    "class",    "control",
    "care",        "field",    "development", "role",       "effort",    "rate",     "heart",
    "drug",        "show",     "leader",      "light",      "voice",     "wife",     "police",
    "mind",        "price",    "report",      "decision",   "son",       "view",     "relationship",
    "town",        "road",     "arm",         "difference", "value",     "building", "action",
    "model",       "season",   "society",     "tax",        "director",  "position", "player",
    "record",      "paper",    "space",       "ground",     "form",      "event",    "official",
    "matter",      "center",   "couple",      "site",       "project",   "activity", "star",
    "table",       "need",     "court",       "oil",        "situation", "cost",     "industry",
    "figure",      "street",   "image",       "phone",      "data",      "picture",  "practice",
    "piece",       "land",     "product",     "doctor",     "wall",      "patient",  "worker",
    "news",        "test",     "movie",       "north",      "love",      "support",  "technology",
    "step",        "baby",     "computer",    "type",       "attention", "film",     "tree",
    "source",      "hair",     "window",      "culture",    "chance",
});

/// Beyond so many tokens every number can be reached, if any can.
constexpr uint32_t reach_limit = 512;

} // namespace

std::string_view word_table::first_word() {
  return common_words.front();
}

word_table word_table::approximate() {
  word_table out;
  out.words_.assign(common_words.begin(), common_words.end());
  out.costs_.assign(out.words_.size(), 1);
  out.learn_reach();
  return out;
}

caf::expected<word_table> word_table::learn(token_counter& counter, bool chat) {
  word_table out;
  out.words_.assign(common_words.begin(), common_words.end());
  out.counted_by_ = counter.name();
  auto count = [&](const std::string& text) {
    return chat ? counter.count_chat(text) : counter.count(text);
  };
  std::string text{first_word()};
  auto first = count(text);
  if (!first)
    return first.error();
  out.first_cost_ = *first;
  for (auto word : out.words_)
    text.append(" ").append(word);
  auto all = count(text);
  if (!all)
    return all.error();
  // In most vocabularies each word is one token: then one count has told it all.
  out.costs_.assign(out.words_.size(), 1);
  if (*all != *first + out.words_.size())
    for (size_t i = 0; i < out.words_.size(); ++i) {
      auto n = count(std::string{first_word()} + " " + std::string{out.words_[i]});
      if (!n)
        return n.error();
      out.costs_[i] = *n > *first ? *n - *first : 1;
    }
  out.learn_reach();
  out.exact_ = true;
  random_source random{1};
  for (uint32_t tokens : {32u, 63u, 126u}) {
    text = first_word();
    auto wanted = out.first_cost_ + out.append(text, tokens, random);
    auto n = count(text);
    if (!n)
      return n.error();
    if (*n != wanted)
      return caf::make_error(ec::bad_option, "the tokens of words do not add up in " +
                                                 counter.name() + ": " + std::to_string(*n) +
                                                 " instead of " + std::to_string(wanted));
  }
  return out;
}

void word_table::learn_reach() {
  reach_.assign(reach_limit, false);
  reach_[0] = true;
  for (size_t n = 1; n < reach_limit; ++n)
    reach_[n] = std::any_of(costs_.begin(), costs_.end(),
                            [&](uint32_t cost) { return cost <= n && reach_[n - cost]; });
}

uint32_t word_table::append_within(std::string& to, uint32_t tokens, random_source& random) const {
  for (uint32_t used = 0;;) {
    auto i = random.below(words_.size());
    if (used + costs_[i] > tokens)
      return used;
    to.append(" ").append(words_[i]);
    used += costs_[i];
  }
}

uint32_t word_table::append(std::string& to, uint32_t tokens, random_source& random) const {
  uint32_t used = 0;
  while (used < tokens) {
    auto start = random.below(words_.size());
    auto chosen = words_.size();
    // From a random place on: nearly always the first one fits.
    for (size_t k = 0; k < words_.size() && chosen == words_.size(); ++k) {
      auto i = (start + k) % words_.size();
      if (used + costs_[i] <= tokens && reaches(tokens - used - costs_[i]))
        chosen = i;
    }
    if (chosen == words_.size())
      return used;
    to.append(" ").append(words_[chosen]);
    used += costs_[chosen];
  }
  return used;
}

} // namespace troupe::load_test

#include <algorithm>
#include <cmath>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/prompts/prompt_source.hpp"

namespace troupe::load_test {

namespace {

constexpr uint32_t first_id = 3; // what stands below is often a special token

enum class purpose : uint64_t { lengths = 1, words = 2, prefix = 3 };

class synthetic final : public prompt_source {
public:
  synthetic(synthetic_settings settings, word_table words)
      : settings_{std::move(settings)}, words_{std::move(words)} {}

  prompt make(uint64_t conversation, uint64_t turn) const override {
    auto key = mix(conversation) ^ mix(~turn);
    auto lengths = draws(purpose::lengths, key);
    prompt out;
    out.tokens = settings_.input.draw(lengths);
    out.output_tokens = settings_.output.draw(lengths);
    if (settings_.trace && turn == 0 && !settings_.trace->empty()) {
      const auto& entry = (*settings_.trace)[conversation % settings_.trace->size()];
      out.tokens = entry.input_tokens > 0 ? entry.input_tokens : out.tokens;
      out.output_tokens = entry.output_tokens > 0 ? entry.output_tokens : out.output_tokens;
    }
    auto own = draws(purpose::words, key);
    auto shared = draws(purpose::prefix, conversation % std::max(1u, settings_.prefix_groups));
    if (settings_.as_ids)
      fill_ids(out, shared, own);
    else
      fill_words(out, turn, shared, own);
    return out;
  }

  std::string describe() const override {
    auto out = std::string{settings_.as_ids ? "random token ids" : "random words"};
    if (!settings_.as_ids)
      out += ", counted by " + words_.counted_by();
    if (settings_.shared_prefix > 0)
      out += ", " + std::to_string(std::lround(settings_.shared_prefix * 100)) + " % shared by " +
             (settings_.prefix_groups > 1
                  ? "one of " + std::to_string(settings_.prefix_groups) + " groups"
                  : std::string{"all"});
    return out;
  }

private:
  random_source draws(purpose p, uint64_t key) const {
    return random_source{mix(settings_.seed ^ mix(static_cast<uint64_t>(p))) ^ key};
  }

  uint32_t shared_part(uint32_t tokens) const {
    return static_cast<uint32_t>(std::lround(settings_.shared_prefix * tokens));
  }

  void fill_ids(prompt& to, random_source& shared, random_source& own) const {
    auto count = to.tokens;
    auto prefix = shared_part(count);
    to.ids.reserve(count);
    for (uint32_t i = 0; i < count; ++i)
      to.ids.push_back(static_cast<int32_t>(
          first_id + (i < prefix ? shared : own).below(settings_.vocabulary - first_id)));
  }

  /// A first turn counts with everything around it, a later one for itself.
  void fill_words(prompt& to, uint64_t turn, random_source& shared, random_source& own) const {
    std::string text{word_table::first_word()};
    auto around = turn == 0 ? words_.first_cost() : 1;
    auto room = to.tokens > around ? to.tokens - around : 0;
    auto used = turn == 0 ? words_.append_within(text, shared_part(room), shared) : 0;
    used += words_.append(text, room - used, own);
    // Only where the words allow no exact sum is this less than what was asked for.
    to.tokens = turn == 0 && words_.exact() ? around + used : 0;
    to.messages.push_back({"user", std::move(text)});
  }

  synthetic_settings settings_;
  word_table words_;
};

} // namespace

caf::expected<prompt_source_ptr> make_synthetic(synthetic_settings settings, word_table words) {
  if (settings.as_ids && settings.vocabulary <= first_id)
    return caf::make_error(ec::bad_option, "--vocabulary must be greater than 3");
  if (!settings.as_ids && words.exact() &&
      settings.input.kind == length_distribution::shape::fixed) {
    auto asked = static_cast<uint32_t>(settings.input.first);
    if (asked < words.first_cost() || !words.reaches(asked - words.first_cost())) {
      auto least = words.first_cost();
      while (least < asked ||
             (least > words.first_cost() && !words.reaches(least - words.first_cost())))
        ++least;
      return caf::make_error(ec::bad_option,
                             "--input-tokens " + std::to_string(asked) +
                                 ": no prompt has so few; the special tokens and the chat template "
                                 "are counted in. The next number that works is " +
                                 std::to_string(least));
    }
  }
  return prompt_source_ptr{std::make_shared<synthetic>(std::move(settings), std::move(words))};
}

} // namespace troupe::load_test

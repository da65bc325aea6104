#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/prompts/token_counter.hpp"
#include "troupe/examples/load_test/random.hpp"

namespace troupe::load_test {

/// Words whose numbers of tokens are known, so that a prompt of exactly so many is put together
/// without counting it.
class word_table {
public:
  /// Every word counts as one token: an approximation for servers that nobody can ask.
  static word_table approximate();

  /// Learns what each word costs, and what stands around a text. Words add up in every tokenizer
  /// that splits at spaces; whether they do is checked. Errors: those of `counter`, or
  /// ec::bad_option when the counts of words do not add up.
  static caf::expected<word_table> learn(token_counter& counter, bool chat);

  bool exact() const { return exact_; }
  const std::string& counted_by() const { return counted_by_; }

  /// The word that every prompt begins with, because what a first word costs beside special tokens
  /// and the chat template cannot be told apart by counting.
  static std::string_view first_word();
  /// Tokens of a prompt of the first word alone, with everything that stands around it.
  uint32_t first_cost() const { return first_cost_; }

  /// Whether there is text of exactly so many tokens.
  bool reaches(uint32_t tokens) const { return tokens >= reach_.size() || reach_[tokens]; }

  /// Appends words of exactly `tokens` tokens, or of as many as the words allow.
  /// @returns How many.
  uint32_t append(std::string& to, uint32_t tokens, random_source& random) const;

  /// Appends random words as long as they fit within `tokens`: what does not depend on `tokens` but
  /// for its length. @returns How many tokens these are.
  uint32_t append_within(std::string& to, uint32_t tokens, random_source& random) const;

private:
  void learn_reach();

  std::vector<std::string_view> words_;
  std::vector<uint32_t> costs_; ///< Tokens of a word behind a space.
  std::vector<bool> reach_;     ///< Whether words add up to so many tokens.
  uint32_t first_cost_ = 1;
  bool exact_ = false;
  std::string counted_by_ = "words (approximate)";
};

} // namespace troupe::load_test

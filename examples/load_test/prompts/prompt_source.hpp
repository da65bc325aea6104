#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/load/arrivals.hpp"
#include "troupe/examples/load_test/load/lengths.hpp"
#include "troupe/examples/load_test/prompts/word_table.hpp"

namespace troupe::load_test {

/// Makes the prompts of a run. The same settings give the same prompts, whoever asks in which
/// order. Immutable; any thread.
class prompt_source {
public:
  virtual ~prompt_source() = default;

  /// What conversation number `conversation` says in its turn `turn`: the new message alone, in
  /// `messages` or `ids`.
  virtual prompt make(uint64_t conversation, uint64_t turn) const = 0;

  /// For people: what prompts there are, and what counts their tokens.
  virtual std::string describe() const = 0;
};

using prompt_source_ptr = std::shared_ptr<const prompt_source>;

struct synthetic_settings {
  length_distribution input;
  length_distribution output;
  double shared_prefix = 0;   ///< Share of the tokens that prompts of one group have in common.
  uint32_t prefix_groups = 1; ///< Conversations are dealt out to the groups.
  trace_ptr trace;            ///< Its lengths go before.
  uint64_t seed = 0;
  bool chat = false;       ///< Counted within the chat template.
  bool as_ids = false;     ///< Random token ids instead of words.
  uint32_t vocabulary = 0; ///< Of the ids.
};

/// Prompts of words, with an exact number of tokens where `words` is exact. Errors: ec::bad_option
/// when no prompt can be that short.
caf::expected<prompt_source_ptr> make_synthetic(synthetic_settings settings, word_table words);

/// Prompts of a file: text (one a line), JSON lines ("prompt", "text", "inputs" or "messages", and
/// perhaps "output_tokens" or "max_tokens"), or ShareGPT's array of conversations. In the file's
/// order, over and over. Errors: ec::bad_option with the line.
caf::expected<prompt_source_ptr> open_prompts(const std::filesystem::path& file,
                                              length_distribution output, uint64_t seed);

/// As above from the text itself; `name` is for messages.
caf::expected<prompt_source_ptr> parse_prompts(std::string text, const std::string& name,
                                               length_distribution output, uint64_t seed);

} // namespace troupe::load_test

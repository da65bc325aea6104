#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "troupe/actors/interfaces.hpp"

namespace troupe {

/// The tokenizers of a model. Immutable but for the counts of what waits at each, so all requests
/// of the model share one; the model makes a new one when a tokenizer has to be replaced.
class tokenizer_pool {
public:
  /// Bytes of text on their way to one tokenizer; it takes off what it has dealt with.
  using backlog = std::shared_ptr<std::atomic<uint64_t>>;

  struct member {
    tokenizer_actor actor;
    backlog bytes = std::make_shared<std::atomic<uint64_t>>(0);
  };

  explicit tokenizer_pool(std::vector<member> members) : members_(std::move(members)) {}

  const std::vector<member>& members() const { return members_; }

  /// The member with the least to do; `bytes` are added to its backlog, so the job must be sent.
  /// One long text thus delays no short one while another tokenizer is free.
  const tokenizer_actor& pick(uint64_t bytes) const;

private:
  std::vector<member> members_;
  mutable std::atomic<uint32_t> turn_{0};
};

/// What a job adds to the backlog: its text and a little for being a message.
uint64_t backlog_of(const encode_job& job);
uint64_t backlog_of(const detokenize_request& job);

} // namespace troupe

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "troupe/models/step.hpp"

namespace troupe::scheduling {

/// Names the content of one full, published block together with all that stands before it. Never
/// reused, so that a chain whose beginning was evicted is out of reach and can't be taken for
/// another.
enum class content_id : uint64_t { none = 0 };

/// What separates equal tokens that must not share KV.
struct prefix_scope {
  std::string_view salt;
  double rope_base = 0;
};

/// Keeps account of the KV blocks: who references them, which are free, and which hold a prefix
/// that later sequences may take over. A plain single-threaded class. Releasing is the caller's
/// statement that no step in flight names the block any more.
class block_ledger {
public:
  /// @param blocks       KV blocks on every stage.
  /// @param block_tokens Positions per block, >= 1.
  block_ledger(uint32_t blocks, uint32_t block_tokens);

  uint32_t block_tokens() const { return block_tokens_; }
  uint32_t total() const { return total_; }
  uint32_t used() const { return used_; }     ///< Referenced.
  uint32_t shared() const { return shared_; } ///< Referenced more than once.
  uint32_t cached() const { return cached_; } ///< Unreferenced, with a published content.
  uint32_t free() const { return total_ - used_ - cached_; }
  uint32_t available() const { return total_ - used_; } ///< What `allocate` can still give.

  /// A block with one reference and unknown content: a returned one, else one never used (so that
  /// pages are touched late), else the least recently used cached one. Nothing when all are used.
  std::optional<block_id> allocate();

  /// One more reference to a block that has one.
  void share(block_id block);
  void release(block_id block);

  /// Releases a sequence's table from its end, so that of a chain the end is evicted first.
  void release_all(std::vector<block_id>& table);

  struct match_result {
    uint32_t blocks = 0;
    content_id last = content_id::none;
  };

  /// Appends the published blocks with which `tokens` begins to `table`, each with one more
  /// reference. Only whole blocks, at most `most`.
  match_result match(std::span<const int32_t> tokens, uint32_t most, const prefix_scope& scope,
                     std::vector<block_id>& table);

  /// Makes a full block findable. Its KV is computed, its tokens are known to the host.
  /// @param before The content of the block before it; none for a sequence's first.
  /// @param tokens [block_tokens]
  /// @returns What to pass as `before` for the next block. When the same content is published
  /// already, that one's id, and this block stays private.
  content_id publish(content_id before, block_id block, std::span<const int32_t> tokens,
                     const prefix_scope& scope);

  /// The KV is gone. @pre no block is referenced.
  void forget_contents();

  /// Checks every count and link against the blocks, for tests. Empty when all is well.
  std::string audit() const;

private:
  static constexpr uint32_t nobody = UINT32_MAX;

  struct block {
    uint32_t references = 0;
    content_id content = content_id::none; ///< Set while in the index.
    content_id before = content_id::none;
    uint64_t hash = 0;
    uint32_t next_in_bucket = nobody; ///< Blocks with the same hash.
    uint32_t older = nobody;          ///< Neighbours among the cached, by last use.
    uint32_t newer = nobody;
    std::vector<int32_t> tokens;
    std::string salt;     ///< Of a chain's first block; the others inherit it through `before`.
    double rope_base = 0; ///< Likewise.
  };

  uint64_t hash_of(content_id before, std::span<const int32_t> tokens,
                   const prefix_scope& scope) const;
  uint32_t find(uint64_t hash, content_id before, std::span<const int32_t> tokens,
                const prefix_scope& scope) const;
  void retain(uint32_t i);
  void unpublish(uint32_t i);
  void link_newest(uint32_t i);
  void unlink(uint32_t i);

  uint32_t total_;
  uint32_t block_tokens_;
  uint32_t used_ = 0;
  uint32_t shared_ = 0;
  uint32_t cached_ = 0;
  uint64_t contents_ = 0; ///< The last content_id given out.
  uint32_t oldest_ = nobody;
  uint32_t newest_ = nobody;
  std::vector<block> blocks_;                    ///< As far as they were ever used.
  std::vector<uint32_t> returned_;               ///< Unreferenced, unpublished.
  std::unordered_map<uint64_t, uint32_t> index_; ///< Hash to the first block of its bucket.
};

} // namespace troupe::scheduling

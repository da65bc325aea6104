#include <algorithm>
#include <utility>

#include "troupe/actors/scheduling/batching_entry.hpp"

/// Preempted sequences whose KV waits in host memory. Within a step blocks leave before others come
/// in, and both before copies are made and any row runs.
namespace troupe::scheduling {

/// Leaves the KV of a sequence that is about to give up its blocks in host memory, if that pays.
void batching::move_out(entry& e) {
  const auto blocks = blocks_for(e.done);
  if (!swap_.pays(blocks, e.done, share_.token_time()))
    return;
  auto places = swap_.take(blocks);
  if (!places)
    return;
  e.host = std::move(*places);
  e.host_positions = e.done;
  e.host_flying = false;
  for (uint32_t i = 0; i < blocks; ++i)
    swaps_out_.push_back({e.table[i], e.host[i]});
  moved_out_.push_back(e.id);
  ++counts_.swaps_out;
}

/// The KV comes back into the table's blocks from `first` on; those before hold it already.
void batching::move_in(entry& e, uint32_t first) {
  for (auto i = first; i < e.host.size(); ++i)
    swaps_in_.push_back({e.table[i], e.host[i]});
  e.scheduled = e.done = std::max(e.done, e.host_positions);
  moved_in_.push_back(e.id);
  ++counts_.swaps_in;
  // Whoever gets these places next is moved out by a later step.
  forget_host(e);
}

void batching::forget_host(entry& e) {
  swap_.give_back(e.host);
  e.host_positions = 0;
  e.host_flying = false;
}

void batching::attach_moves(step& s) {
  s.swaps_out.swap(swaps_out_);
  s.swaps_in.swap(swaps_in_);
  swaps_out_.clear();
  swaps_in_.clear();
  building_.moved_out = std::exchange(moved_out_, {});
  building_.moved_in = std::exchange(moved_in_, {});
  for (auto id : building_.moved_out)
    if (auto* e = find(id); e && !e->host.empty())
      e->host_flying = true;
}

void batching::moves_landed(const flight& f) {
  for (auto id : f.moved_out)
    if (auto* e = find(id))
      e->host_flying = false;
}

/// Neither what left nor what came back can be trusted: it is computed again.
void batching::moves_failed(const flight& f) {
  for (auto id : f.moved_out)
    if (auto* e = find(id); e && e->host_flying)
      forget_host(*e);
  for (auto id : f.moved_in)
    if (auto* e = find(id); e && e->has_slot && !e->ended) {
      e->done = e->published * limits_.block_tokens;
      e->scheduled = std::max(e->scheduled, e->done);
      e->preempting = true;
      e->retry_group = 0;
    }
}

} // namespace troupe::scheduling

#pragma once

#include <cstdint>
#include <deque>

#include "troupe/models/step.hpp"

namespace troupe::scheduling {

/// Which steps are on the shards: as many at a time as there are shards, so that every device
/// computes at once, and, where steps are scheduled ahead, more, so that no device waits for the
/// host. Gives steps their epoch and id, and tells results that count from those that
/// came too late.
class pipeline {
public:
  /// New shards: what was in flight is gone. `depth` = number of shards, 0 = none for now; `ahead`
  /// = steps in flight beyond that.
  void open(epoch_id epoch, uint32_t depth, uint32_t ahead = 0);

  /// No shards until the next `open`.
  void close();

  uint32_t depth() const { return depth_; }
  epoch_id epoch() const { return epoch_; }
  uint32_t in_flight() const { return static_cast<uint32_t>(flying_.size()); }
  uint32_t free_slots() const {
    const auto most = depth_ == 0 ? 0 : depth_ + ahead_;
    return most > in_flight() ? most - in_flight() : 0;
  }
  bool has_room() const { return free_slots() > 0; }

  /// Marks `s` with epoch and the next id and counts it as in flight. @pre has_room()
  void launch(step& s);

  /// A step's result or fault arrived. True once per step in flight; false for whatever belongs to
  /// an older epoch or is known to be over.
  bool land(epoch_id epoch, step_id id);

private:
  epoch_id epoch_{};
  uint32_t depth_ = 0;
  uint32_t ahead_ = 0;
  uint64_t last_id_ = 0; ///< Ids go on over epochs.
  std::deque<step_id> flying_;
};

} // namespace troupe::scheduling

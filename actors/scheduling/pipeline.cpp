#include "troupe/actors/scheduling/pipeline.hpp"

#include <algorithm>

namespace troupe::scheduling {

void pipeline::open(epoch_id epoch, uint32_t depth, uint32_t ahead) {
  epoch_ = epoch;
  depth_ = depth;
  ahead_ = ahead;
  flying_.clear();
}

void pipeline::close() {
  depth_ = 0;
  flying_.clear();
}

void pipeline::launch(step& s) {
  s.epoch = epoch_;
  s.id = step_id{++last_id_};
  flying_.push_back(s.id);
}

bool pipeline::land(epoch_id epoch, step_id id) {
  if (epoch != epoch_)
    return false;
  auto place = std::find(flying_.begin(), flying_.end(), id);
  if (place == flying_.end())
    return false;
  flying_.erase(place);
  return true;
}

} // namespace troupe::scheduling

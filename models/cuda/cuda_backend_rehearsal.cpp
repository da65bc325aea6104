#include "troupe/models/cuda/buckets.hpp"
#include "troupe/models/cuda/cuda_backend.hpp"

/// Steps recorded while nobody asks for anything, so that the first real ones of their kind find
/// recordings and chosen algorithms.
namespace troupe::models::cuda {

namespace {

/// Classes of contexts that are recorded unasked; longer ones wait for their first step.
constexpr uint32_t longest_rehearsed_context = 4096;

} // namespace

/// Short contexts before long ones, greedy before sampled, small batches before large ones.
void cuda_backend::plan_rehearsals() {
  rehearsals_.clear();
  if (!options_.graphs)
    return;
  const auto most_context = options_.shape.context;
  for (uint32_t context = 1024; context <= longest_rehearsed_context; context *= 4) {
    const auto class_of =
        options_.batch_invariant ? most_context : context_class(context, most_context);
    for (const bool greedy : {true, false}) {
      if (!greedy && !options_.shape.ends)
        continue;
      for (uint32_t rows = 1; rows <= work_.limits().rows; rows = rows_bucket(rows + 1))
        rehearsals_.push_back({.rows = rows, .context = class_of, .greedy = greedy, .top = false});
    }
    if (class_of == most_context)
      break;
  }
}

size_t cuda_backend::rehearse() {
  check(cudaSetDevice(static_cast<int>(options_.device)), "opening the GPU");
  recordings_.abandon(stream_.get());
  record_ = take_record();
  record_->begun.record(stream_.get());
  while (rehearsals_.size() > 1 && recordings_.settled(rehearsals_.front()))
    rehearsals_.pop_front();
  const auto key = rehearsals_.front();
  one_token_rows_ = has_one_token_row_ = true;
  context_ = key.context;
  sizes_ = {.tokens = key.rows, .rows = key.rows, .picked = options_.shape.ends ? key.rows : 0};
  recordable_ = true;
  const step_layout nobody;
  collect_requests(nobody);
  plain_greedy_ = key.greedy;
  upload(nobody);
  // The first pass chooses algorithms, the second is recorded.
  if (recordings_.seen(key))
    rehearsals_.pop_front();
  return sizes_.tokens;
}

} // namespace troupe::models::cuda

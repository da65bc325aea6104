#pragma once

#include "troupe/actors/model.hpp"

/// The part of a model actor that makes, watches and replaces its children; what it does for
/// requests is in model.cpp. Internal to the model actor.
namespace troupe {

/// Starts the loader's thread and the clock of the loading timeout.
void begin_loading(model_ptr self);

/// The loader has put plan and tokenizer into `parts`: memory is reserved, then children are made.
void parts_ready(model_ptr self);
void parts_failed(model_ptr self, const caf::error& err);

void shard_loaded(model_ptr self, uint32_t index);
void shard_failed(model_ptr self, uint32_t index, const caf::error& err);
void shard_progress(model_ptr self, uint32_t index, uint64_t done, uint64_t total);

/// A scheduler, shard or tokenizer of this model is gone.
void child_died(model_ptr self, const caf::down_msg& down);

/// The back-off is over.
void reload_dead_shards(model_ptr self);

/// Ends all children; used when the model fails or ends.
void dismiss_children(model_actor_state& state);

// In model.cpp:

/// All shards hold their layers and are wired.
void set_ready(model_ptr self);

/// The model fails for good: whoever waits for it, loading or generating, hears this error.
void give_up(model_ptr self, caf::error err);

/// Ends all requests with this error.
void tell_guests(model_ptr self, const caf::error& err);

caf::error drain_timed_out(const std::string& model);

/// What requests are told whose time to finish was taken back.
caf::error drain_cut_short(const std::string& model);

} // namespace troupe

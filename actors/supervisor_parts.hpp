#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "troupe/actors/supervisor.hpp"

/// The parts of the supervisor, each in a source file of its own. Internal to the supervisor.
namespace troupe {

// -- supervisor.cpp: loading, restarts, the ledger ------------------------------------------------

std::string label_of(const model_spec& spec);

supervised_model* find(supervisor_state& state, uint64_t serial);

/// The registered ones of that name, or that version of it alone.
std::vector<uint64_t> select(const supervisor_state& state, const std::string& name,
                             const std::optional<std::string>& version);

void publish_route(supervisor_ptr self, const supervised_model& entry);

/// Spawns its actor, which loads.
void launch(supervisor_ptr self, supervised_model& entry);

/// Ends its actor, if there is one, and gives back what it had reserved.
void dismiss(supervisor_ptr self, supervised_model& entry);

// -- supervisor_status.cpp ------------------------------------------------------------------------

/// Of a model without an actor.
model_status describe_absent(const supervised_model& entry);

/// Delivers the status of these models, once all have answered.
void report_to(supervisor_ptr self, const std::vector<uint64_t>& serials,
               caf::typed_response_promise<std::vector<model_status>> promise);

caf::result<std::vector<model_status>> report_all(supervisor_ptr self);

// -- supervisor_leaving.cpp: unloading, scaling to nothing, the end -------------------------------

/// @param version Absent: all versions.
caf::result<model_status> unload(supervisor_ptr self, const std::string& name,
                                 const std::optional<std::string>& version);

/// Its actor goes, its entry stays; a later scaling brings it back.
void stop(supervisor_ptr self, supervised_model& entry, std::function<void()> then);

caf::result<done_atom> drain(supervisor_ptr self, uint32_t wait_ms);

// -- supervisor_scaling.cpp -----------------------------------------------------------------------

caf::result<std::vector<model_status>> scale(supervisor_ptr self, const worker_scaling& wanted);

} // namespace troupe

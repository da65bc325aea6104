#include "fake_engine.hpp"

#include <chrono>
#include <optional>
#include <thread>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"

namespace troupe::test {

namespace {

struct fake_request_state {
  script_ptr what;
  event_sink sink;
  size_t next = 0;
  int64_t credit = initial_credit;
  bool prompt_sent = false;
  generation_request request;
};

using fake_request_ptr = request_actor::stateful_pointer<fake_request_state>;

token_event token_of(const std::string& text, size_t index) {
  token_event out;
  out.token.id = static_cast<int32_t>(100 + index);
  out.token.text = text;
  out.token.bytes = text;
  out.token.logprob = -0.5f;
  return out;
}

void send_batch(fake_request_ptr self, event_batch batch) {
  auto& state = self->state;
  if (!std::exchange(state.prompt_sent, true)) {
    prompt_event prompt;
    prompt.token_count = 4;
    batch.prompt.push_back(prompt);
  }
  batch.weight = state.what->weight;
  state.credit -= batch.weight;
  state.what->sent_weight += batch.weight;
  auto over = batch.complete || batch.failure;
  self->send(state.sink, std::move(batch));
  if (over) {
    ++state.what->finished;
    self->quit();
  }
}

/// One more token, or the end.
void advance(fake_request_ptr self) {
  auto& state = self->state;
  const auto& what = *state.what;
  if (state.next >= what.fail_after) {
    event_batch batch;
    batch.failure = what.failure;
    return send_batch(self, std::move(batch));
  }
  if (what.endless) {
    // As a scheduler would: nothing is produced without credit.
    while (state.credit > 0) {
      event_batch batch;
      batch.tokens.push_back(token_of(what.pieces[state.next % what.pieces.size()], state.next));
      ++state.next;
      send_batch(self, std::move(batch));
    }
    return;
  }
  event_batch batch;
  do {
    batch.tokens.push_back(token_of(what.pieces[state.next], state.next));
    ++state.next;
  } while (what.together && state.next < what.pieces.size());
  if (state.next == what.pieces.size()) {
    choice_event end;
    end.reason = finish_reason::length;
    for (const auto& piece : what.pieces)
      end.generated_text += piece;
    end.generated_tokens = static_cast<uint32_t>(what.pieces.size());
    batch.ends.push_back(std::move(end));
    batch.complete = true;
  }
  auto more = !batch.complete;
  send_batch(self, std::move(batch));
  if (more && state.next == what.fail_after)
    self->delayed_send(self, std::chrono::milliseconds{100},
                       submit_atom_v); // The tokens leave first.
  else if (more)
    self->send(self, submit_atom_v);
}

void cancelled(fake_request_ptr self) {
  ++self->state.what->cancelled;
  self->quit();
}

request_actor::behavior_type fake_request(fake_request_ptr self, script_ptr what, event_sink sink,
                                          generation_request request) {
  self->state.what = std::move(what);
  self->state.sink = std::move(sink);
  self->state.request = std::move(request);
  self->monitor(self->state.sink);
  self->set_down_handler([self](const caf::down_msg&) { cancelled(self); });
  if (auto delay = self->state.what->delay_ms)
    self->delayed_send(self, std::chrono::milliseconds{delay}, submit_atom_v);
  else
    self->send(self, submit_atom_v);
  return {
      [self](submit_atom) { advance(self); },
      [](const token_batch&) {},
      [](done_atom, sequence_id, sequence_end) {},
      [](fault_atom, sequence_id, const caf::error&) {},
      [self](credit_atom, uint32_t weight) {
        self->state.credit += weight;
        self->state.what->granted += weight;
        if (self->state.what->endless)
          advance(self);
      },
      [self](cancel_atom) { cancelled(self); },
      [](drain_atom) {},
      [](drain_atom, const caf::error&) {},
      [](wire_atom, const caf::actor&) {},
      [](timeout_atom, uint32_t) {},
  };
}

struct fake_engine_state {
  script_ptr what;
};

using fake_engine_ptr = engine_actor::stateful_pointer<fake_engine_state>;

bool knows(const script& what, const std::string& name) {
  for (const auto& model : what.models)
    if (model.name == name || (name.empty() && what.models.size() == 1))
      return true;
  return false;
}

caf::error no_model(const std::string& name) {
  if (name.empty())
    return caf::make_error(ec::invalid_request, std::string{"Parameter model_name is required."});
  return caf::make_error(ec::model_not_found, "Model or workflow not found: " + name);
}

caf::result<request_actor> admit(fake_engine_ptr self, generation_request& request,
                                 const event_sink& sink) {
  auto& what = *self->state.what;
  if (!knows(what, request.model))
    return no_model(request.model);
  if (what.refusal)
    return what.refusal;
  ++what.submitted;
  what.max_new_tokens = request.params.max_new_tokens;
  return self->spawn(fake_request, self->state.what, sink, std::move(request));
}

caf::result<model_status> unload(fake_engine_ptr self, const std::string& name,
                                 const std::optional<std::string>& version) {
  auto gone = std::erase_if(self->state.what->models, [&](const model_status& x) {
    return x.name == name && x.registered.version == version.value_or(x.registered.version);
  });
  if (gone == 0)
    return no_model(name);
  return model_status{};
}

engine_actor::behavior_type fake_engine(fake_engine_ptr self, script_ptr what) {
  self->state.what = std::move(what);
  return {
      [self](submit_atom, generation_request& request, const event_sink& sink) {
        return admit(self, request, sink);
      },
      [self](const tokenize_request& request) -> caf::result<tokenize_answer> {
        if (!knows(*self->state.what, request.model))
          return no_model(request.model);
        tokenize_answer out;
        for (auto c : request.input.text)
          out.tokens.push_back(static_cast<unsigned char>(c));
        out.max_model_len = 2048;
        return out;
      },
      [](const detokenize_request& request) -> caf::result<std::string> {
        std::string out;
        for (auto id : request.tokens)
          out += static_cast<char>(id);
        return out;
      },
      [self](load_atom, const model_spec& spec) -> caf::result<model_status> {
        auto& what = *self->state.what;
        auto model = ready_model(spec.name);
        model.registered = spec.registered;
        model.groups.push_back({-1, {}, 1, 1, {{1, 1'700'000'000'123, worker_state::ready}}});
        if (what.load_fault)
          model.state = model_state::failed;
        what.models.push_back(model);
        if (what.load_fault)
          return what.load_fault;
        return model;
      },
      [self](unload_atom, const std::string& name) { return unload(self, name, std::nullopt); },
      [self](unload_atom, const std::string& name, const std::string& version) {
        return unload(self, name, version);
      },
      [self](const worker_scaling& wanted) -> caf::result<std::vector<model_status>> {
        for (auto& model : self->state.what->models)
          if (model.name == wanted.model) {
            model.registered.min_workers = static_cast<uint32_t>(wanted.min);
            model.registered.max_workers = static_cast<uint32_t>(wanted.max);
            return std::vector<model_status>{model};
          }
        return no_model(wanted.model);
      },
      [self](status_atom) { return self->state.what->models; },
      [](drain_atom, uint32_t) { return done_atom_v; },
      [](const model_route&) {},
      [](route_atom, const std::string&, const std::string&) {},
  };
}

} // namespace

struct served::world {
  caf::actor_system_config config;
  std::unique_ptr<caf::actor_system> system;
  engine_actor engine;
};

model_status ready_model(std::string name) {
  model_status out;
  out.name = std::move(name);
  out.state = model_state::ready;
  out.context = 2048;
  out.since_unix = 1'700'000'000;
  return out;
}

http::server_settings served::quick_settings() {
  http::server_settings out;
  out.port = 0;
  out.version = "test";
  return out;
}

served::served(script_ptr what, http::server_settings settings, http::model_source source)
    : world_(std::make_unique<world>()), script_(std::move(what)) {
  [[maybe_unused]] static const bool once = [] {
    telemetry::configure_log({.level = telemetry::log_level::off, .json = false});
    return true;
  }();
  if (script_->models.empty())
    script_->models.push_back(ready_model("tiny"));
  world_->config.add_message_types<caf::id_block::troupe>();
  world_->config.set("scheduler.policy", caf::atom("sharing"));
  world_->config.set("scheduler.max-threads", size_t{2});
  world_->system = std::make_unique<caf::actor_system>(world_->config);
  world_->engine = world_->system->spawn(fake_engine, script_);
  auto started = http::server::start(*world_->system, world_->engine, nullptr, std::move(settings),
                                     std::move(source));
  if (!started)
    throw std::runtime_error(text_of(started.error()));
  server_ = std::move(*started);
}

served::~served() {
  server_.reset();
  kill_engine();
  world_->engine = nullptr;
}

caf::actor_system& served::system() {
  return *world_->system;
}
engine_actor served::engine() const {
  return world_->engine;
}

void served::kill_engine() {
  caf::anon_send_exit(world_->engine, caf::exit_reason::kill);
}

bool eventually(const std::function<bool()>& what) {
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  while (!what()) {
    if (std::chrono::steady_clock::now() > until)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return true;
}

} // namespace troupe::test

#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "troupe/actors/interfaces.hpp"
#include "troupe/http/server.hpp"

/// A scripted engine: no model, only the conversation that a front end has with one.
namespace troupe::test {

/// What the fake saw and what it is to do.
struct script {
  /// Tokens of every answer; the text of token i is pieces[i].
  std::vector<std::string> pieces{"Hello", " ", "world"};
  /// Sends everything in one batch instead of one batch per token.
  bool together = false;
  /// Answers instead of admitting.
  caf::error refusal;
  /// After so many tokens the request fails with `failure`.
  size_t fail_after = SIZE_MAX;
  caf::error failure;
  /// Streams of this model never end and respect credit.
  bool endless = false;
  uint32_t weight = 100; ///< Of a batch.
  uint32_t delay_ms = 0; ///< Before the first token.
  std::vector<model_status> models;
  caf::error load_fault; ///< Of every model that is loaded.

  std::atomic<int> submitted{0};
  std::atomic<int> cancelled{0}; ///< By message or because the sink went down.
  std::atomic<int> finished{0};
  std::atomic<uint64_t> granted{0};
  std::atomic<uint64_t> sent_weight{0};
  std::atomic<int64_t> max_new_tokens{0};
};

using script_ptr = std::shared_ptr<script>;

model_status ready_model(std::string name);

/// An actor system with a fake engine and a server in front of it.
class served {
public:
  explicit served(script_ptr script, http::server_settings settings = quick_settings(),
                  http::model_source source = nullptr);
  ~served();

  uint16_t port() const { return server_->port(); }
  http::server& server() { return *server_; }
  const script_ptr& what() const { return script_; }
  caf::actor_system& system();
  engine_actor engine() const;
  void kill_engine();

  /// Any free port, short time-outs where a test waits for none.
  static http::server_settings quick_settings();

private:
  struct world;
  std::unique_ptr<world> world_;
  script_ptr script_;
  std::unique_ptr<http::server> server_;
};

/// Waits until `what()` holds, at most ten seconds. @returns whether it does.
bool eventually(const std::function<bool()>& what);

} // namespace troupe::test

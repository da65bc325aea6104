#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "troupe/http/event_port.hpp"
#include "troupe/http/message.hpp"
#include "troupe/http/router.hpp"

/// What connections see of the actor world, without its headers.
namespace troupe::http {

/// A request in the engine's hands. Destroying it changes nothing.
class engine_ticket {
public:
  virtual ~engine_ticket() = default;
  /// So much weight has left for the client.
  virtual void credit(uint32_t weight) = 0;
  /// Nobody wants more. Nothing is pushed after it took effect.
  virtual void cancel() = 0;
};

/// The engine. All functions are thread-safe and return at once.
class engine_link {
public:
  virtual ~engine_link() = default;

  /// Submits a request; its events, or one failure, arrive at the port under that part's number.
  virtual std::unique_ptr<engine_ticket>
  submit(generation_request request, std::shared_ptr<event_port> port, uint32_t part) = 0;

  /// Asks; `answer` is called once, from some other thread.
  virtual void ask(engine_query query, std::function<void(reply)> answer) = 0;
};

} // namespace troupe::http

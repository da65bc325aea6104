#include <array>
#include <charconv>

#include <boost/asio/post.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"
#include "troupe/http/background_job.hpp"
#include "troupe/http/connection.hpp"
#include "troupe/http/errors.hpp"
#include "troupe/http/status_line.hpp"

namespace troupe::http {

using telemetry::log_level;

template <class F>
auto connection::from_elsewhere(F f) {
  return [loop = loop_, weak = weak_from_this(), f = std::move(f)](auto&&... xs) mutable {
    if (auto alive = loop.lock())
      boost::asio::post(alive->context,
                        [weak, f, ... xs = std::forward<decltype(xs)>(xs)]() mutable {
                          auto self = weak.lock();
                          if (self && self->phase_ == phase::answering)
                            f(*self, std::move(xs)...);
                        });
  };
}

void connection::begin_exchange() {
  keep_alive_ = reader_->keep_alive();
  http_1_0_ = reader_->http_1_0();
  auto given = reader_->take();
  if (!given)
    return refuse(400, ec::invalid_request, "BadRequestException", "Invalid HTTP message.");
  reader_.reset();
  phase_ = phase::answering;
  expect_nothing();
  const auto& settings = front_->state->settings;
  admit(settings, *given);
  front_->state->counters.requests.add();
  exchange_.number = ++exchanges_;
  exchange_.method = given->method;
  exchange_.target = std::move(given->target);
  exchange_.id = given->id;
  exchange_.keep_alive = keep_alive_;
  exchange_.chunked = !http_1_0_;
  exchange_.since = clock::now();
  exchange_.errors = style_of(given->path);
  route_request(std::move(*given));
}

void connection::route_request(request given) {
  if (given.body.size() <= front_->state->settings.inline_parse_bytes)
    return dispatch(route(*front_->state, given, role_));
  auto back = from_elsewhere([](connection& self, routed what) { self.dispatch(std::move(what)); });
  boost::asio::post(front_->parsing,
                    [state = front_->state, role = role_, given = std::move(given),
                     back = std::move(back)]() mutable { back(route(*state, given, role)); });
}

void connection::refuse(int status, ec code, std::string_view type, std::string_view message) {
  auto head = reader_ ? reader_->head() : request{};
  auto style = style_of(head.path);
  refuse(std::move(head), refusal(style, status, to_string_view(code), type, message));
}

void connection::refuse(request head, reply answer) {
  reader_.reset();
  phase_ = phase::answering;
  exchange_ = exchange{};
  admit(front_->state->settings, head);
  exchange_.method = head.method;
  exchange_.target = head.target;
  exchange_.id = head.id;
  exchange_.keep_alive = false;
  exchange_.since = clock::now();
  send(std::move(answer));
}

void connection::dispatch(routed what) {
  if (auto* answer = std::get_if<reply>(&what))
    return send(std::move(*answer));
  if (auto* job = std::get_if<generation_job>(&what))
    return start_job(std::move(*job));
  if (auto* unknown = std::get_if<load_first>(&what))
    return load_first_of_all(std::move(*unknown));
  auto& query = std::get<engine_query>(what);
  front_->engine->ask(std::move(query),
                      from_elsewhere([number = exchange_.number](connection& self, reply answer) {
                        if (self.exchange_.number == number)
                          self.send(std::move(answer));
                      }));
}

void connection::load_first_of_all(load_first what) {
  if (std::exchange(exchange_.loaded, true))
    return send(lmi_error(404, "ModelNotFoundException",
                          "Model or workflow not found: " + what.load.wanted.name));
  telemetry::log(log_level::info, exchange_.id,
                 "loading " + what.load.wanted.name + " from " + what.load.wanted.url);
  auto loaded = [number = exchange_.number, given = std::move(what.then)](connection& self,
                                                                          reply answer) {
    if (self.exchange_.number != number)
      return;
    // Another request may have begun to load it; then it is not ready yet, and says so.
    constexpr int taken = 409;
    if (answer.status < 300 || answer.status == taken)
      self.route_request(given);
    else
      self.send(std::move(answer));
  };
  front_->engine->ask(engine_query{.what = std::move(what.load)},
                      from_elsewhere(std::move(loaded)));
}

void connection::start_job(generation_job job) {
  for (const auto& warning : job.warnings)
    telemetry::log(log_level::warn, exchange_.id, warning);
  exchange_.inference = true;
  if (job.asynchronous)
    return send(run_in_background(front_, std::move(job)));
  exchange_.errors = job.errors;
  if (!front_->state->keys.empty())
    exchange_.turn = job.requests.back().turn;
  exchange_.model = job.requests.front().model;
  exchange_.dialect = std::move(job.settings);
  exchange_.writer = std::move(job.writer);
  scratch_.clear();
  auto wake = from_elsewhere([](connection& self) { self.take_events(); });
  exchange_.port = std::make_shared<event_port>(std::move(wake));
  exchange_.parts.resize(job.requests.size());
  for (uint32_t i = 0; i < job.requests.size(); ++i)
    exchange_.parts[i].ticket =
        front_->engine->submit(std::move(job.requests[i]), exchange_.port, i);
}

void connection::take_events() {
  auto port = exchange_.port;
  if (!port)
    return;
  bool alive = true;
  port->take(
      [&](uint32_t part, event_batch& events) { alive = alive && take_batch(part, events); });
  if (!alive)
    return;
  auto& writer = *exchange_.writer;
  bool complete = exchange_.complete == exchange_.parts.size();
  if (writer.streams()) {
    if (!scratch_.empty() || (complete && !exchange_.started))
      stream_body();
    if (!complete)
      return flush();
    if (exchange_.chunked)
      pending_ += "0\r\n\r\n";
    finish_exchange(200);
  } else if (complete) {
    reply answer;
    answer.content_type = writer.content_type();
    answer.body = std::move(scratch_);
    scratch_.clear();
    send(std::move(answer));
  } else {
    report_credit();
  }
}

/// @returns false when the exchange is over.
bool connection::take_batch(uint32_t part, event_batch& events) {
  if (events.failure) {
    auto code = code_of(events.failure);
    if (code == ec::cancelled || code == ec::slow_reader)
      close();
    else
      fail_job(events.failure);
    return false;
  }
  if (auto turn = std::exchange(exchange_.turn, {}))
    front_->state->keys.began(*turn);
  exchange_.writer->take(part, events, scratch_);
  auto& from = exchange_.parts[part];
  // What is collected is no burden on the socket, so its credit comes back at once.
  (exchange_.writer->streams() ? from.unsent : from.owed) += events.weight;
  if (events.complete) {
    from.ticket.reset();
    ++exchange_.complete;
  }
  return true;
}

void connection::fail_job(const caf::error& why) {
  const auto& settings = exchange_.dialect ? *exchange_.dialect : front_->state->settings.dialect;
  telemetry::log(log_level::info, exchange_.id, "failed: " + text_of(why));
  exchange_.model_failed = is_model_failure(code_of(why));
  for (auto& part : exchange_.parts)
    if (part.ticket)
      part.ticket->cancel();
  if (!exchange_.started) {
    scratch_.clear();
    auto answer = error_reply(exchange_.errors, settings, exchange_.model, why);
    answer.note.clear(); // The cause says more.
    return send(std::move(answer));
  }
  exchange_.failure_status = error_reply(exchange_.errors, settings, exchange_.model, why).status;
  exchange_.writer->fail(stream_error(exchange_.errors, settings, exchange_.model, why), scratch_);
  stream_body();
  if (exchange_.chunked)
    pending_ += "0\r\n\r\n";
  finish_exchange(200);
}

void connection::stream_body() {
  if (!std::exchange(exchange_.started, true)) {
    // Without chunks only the connection's end says where the body ends.
    exchange_.keep_alive = exchange_.keep_alive && exchange_.chunked &&
                           !front_->state->draining.load(std::memory_order_relaxed);
    reply head;
    head.content_type = exchange_.writer->content_type();
    append_head(head, true);
    front_->state->counters.open_streams.add(1);
  }
  if (exchange_.chunked && !scratch_.empty()) {
    std::array<char, 16> size{};
    auto end = std::to_chars(size.data(), size.data() + size.size(), scratch_.size(), 16).ptr;
    pending_.append(size.data(), static_cast<size_t>(end - size.data()));
    pending_ += "\r\n";
    pending_ += scratch_;
    pending_ += "\r\n";
  } else {
    pending_ += scratch_;
  }
  scratch_.clear();
}

void connection::send(reply answer) {
  if (answer.status >= 400 || front_->state->draining.load(std::memory_order_relaxed))
    exchange_.keep_alive = false;
  if (!answer.note.empty())
    telemetry::log(log_level::info, exchange_.id, "refused: " + answer.note);
  append_head(answer, false);
  if (exchange_.method != "HEAD")
    pending_ += answer.body;
  finish_exchange(answer.status);
}

void connection::append_head(const reply& answer, bool stream) {
  const auto& settings = front_->state->settings;
  auto& out = pending_;
  auto header = [&](std::string_view name, std::string_view content) {
    out.append(name).append(": ").append(content).append("\r\n");
  };
  out.append("HTTP/1.1 ").append(std::to_string(answer.status)).append(" ");
  out.append(answer.reason.empty() ? usual_reason(answer.status) : answer.reason).append("\r\n");
  if (!answer.content_type.empty())
    header("content-type", answer.content_type);
  header("x-request-id", exchange_.id);
  if (exchange_.inference || answer.inference)
    header("requestId", exchange_.id);
  out += "Pragma: no-cache\r\n"
         "Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
         "Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n";
  if (!settings.cors_allowed_origin.empty())
    header("Access-Control-Allow-Origin", settings.cors_allowed_origin);
  if (!settings.cors_allowed_methods.empty())
    header("Access-Control-Allow-Methods", settings.cors_allowed_methods);
  if (!settings.cors_allowed_headers.empty())
    header("Access-Control-Allow-Headers", settings.cors_allowed_headers);
  for (const auto& [name, content] : answer.headers)
    header(name, content);
  header("connection", exchange_.keep_alive ? "keep-alive" : "close");
  if (!stream)
    header("content-length", std::to_string(answer.body.size()));
  else if (exchange_.chunked)
    header("transfer-encoding", "chunked");
  out += "\r\n";
}

void connection::finish_exchange(int status) {
  using namespace std::chrono;
  auto keep = shared_from_this();
  auto& state = *front_->state;
  state.counters.count_response(status);
  state.failures.record(exchange_.failure_status > 0 ? exchange_.failure_status : status,
                        exchange_.model_failed);
  if (exchange_.started)
    state.counters.open_streams.add(-1);
  if (telemetry::logs(log_level::info)) {
    auto took = duration_cast<milliseconds>(clock::now() - exchange_.since).count();
    telemetry::log(log_level::info, exchange_.id,
                   remote_ + " \"" + exchange_.method + " " + exchange_.target +
                       (exchange_.chunked ? " HTTP/1.1\" " : " HTTP/1.0\" ") +
                       std::to_string(status) + " " + std::to_string(took));
  }
  auto keep_alive = exchange_.keep_alive;
  exchange_ = exchange{};
  if (keep_alive) {
    phase_ = phase::header;
    expect_within(state.settings.idle_timeout);
  } else {
    phase_ = phase::lingering;
    expect_within(milliseconds{state.settings.dialect.read_timeout_ms});
  }
  flush();
  if (phase_ == phase::header && !processing_) {
    process();
    on_readable();
  }
}

void connection::cancel_job() {
  for (auto& part : exchange_.parts)
    if (part.ticket)
      part.ticket->cancel();
  if (exchange_.port)
    telemetry::log(log_level::info, exchange_.id,
                   remote_ + " is gone before its answer was complete");
  if (exchange_.started)
    front_->state->counters.open_streams.add(-1);
  exchange_ = exchange{};
  scratch_.clear();
}

} // namespace troupe::http

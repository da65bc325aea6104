#include "troupe/http/background_job.hpp"

#include <boost/asio/post.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

/// Lives as long as its entry among the results. Everything of it happens on the thread that parses
/// large bodies.
class background_job : public std::enable_shared_from_this<background_job> {
public:
  background_job(const std::shared_ptr<front_end>& front, generation_job job)
      : front_(front), job_(std::move(job)), id_(job_.requests.front().id),
        turn_(job_.requests.back().turn) {}

  void start(const front_end& front, std::shared_ptr<async_result> result) {
    result_ = std::move(result);
    port_ = std::make_shared<event_port>([weak = weak_from_this(), front = front_] {
      if (auto alive = front.lock())
        boost::asio::post(alive->parsing, [weak] {
          if (auto self = weak.lock())
            self->take_events();
        });
    });
    for (uint32_t i = 0; i < job_.requests.size(); ++i)
      tickets_.push_back(front.engine->submit(std::move(job_.requests[i]), port_, i));
  }

  void cancel() {
    for (auto& ticket : tickets_)
      ticket->cancel();
  }

private:
  void take_events() {
    port_->take([&](uint32_t part, event_batch& events) {
      if (!over_)
        take_batch(part, events);
    });
  }

  void take_batch(uint32_t part, event_batch& events) {
    if (events.failure) {
      over_ = true;
      telemetry::log(telemetry::log_level::info, id_, "failed: " + text_of(events.failure));
      cancel();
      return result_->fail(text_of(events.failure));
    }
    if (auto front = turn_ ? front_.lock() : nullptr)
      front->state->keys.began(*std::exchange(turn_, {}));
    // Nothing stands between the answer and its place, so its credit comes back at once.
    tickets_[part]->credit(events.weight);
    complete_ += events.complete ? 1 : 0;
    job_.writer->take(part, events, scratch_);
    over_ = complete_ == tickets_.size();
    if (job_.writer->streams() || over_)
      result_->append(std::exchange(scratch_, {}));
    if (over_)
      result_->finish();
  }

  std::weak_ptr<front_end> front_;
  generation_job job_;
  std::string id_;
  std::optional<uint64_t> turn_; ///< Until the engine has shown that it runs.
  std::shared_ptr<async_result> result_;
  std::shared_ptr<event_port> port_;
  std::vector<std::unique_ptr<engine_ticket>> tickets_;
  std::string scratch_;
  size_t complete_ = 0;
  bool over_ = false;
};

} // namespace

reply run_in_background(const std::shared_ptr<front_end>& front, generation_job job) {
  auto id = new_id();
  std::string type{job.writer->content_type()};
  auto owner = job.key;
  auto made = std::make_shared<background_job>(front, std::move(job));
  auto give_up = [made, weak = std::weak_ptr{front}] {
    if (auto alive = weak.lock())
      boost::asio::post(alive->parsing, [made] { made->cancel(); });
  };
  auto result = front->state->results.add(id, std::move(type), owner, std::move(give_up));
  boost::asio::post(front->parsing, [made, front, result] { made->start(*front, result); });
  return submitted_reply(id);
}

} // namespace troupe::http

#include "troupe/examples/load_test/run/worker.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

#include <boost/asio/post.hpp>
#include <sys/prctl.h>

namespace troupe::load_test {

namespace {

constexpr auto sweep_period = std::chrono::milliseconds{50};
/// Requests begun in one go before sockets get their turn.
constexpr int most_at_once = 32;
constexpr unsigned long timer_slack_ns = 1000;

/// Deals out the share evenly: a closed loop's user is odd for good, so that slow readers do not
/// stop the others by and by.
bool is_in_share(uint64_t user, double share) {
  auto n = static_cast<double>(user);
  return std::floor((n + 1) * share) > std::floor(n * share);
}

double thread_cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

} // namespace

/// A request under way.
class worker::life final : public exchange_observer {
public:
  explicit life(worker& w) : worker_{w} {}

  void tokens(uint32_t count, nanoseconds now) override {
    auto& records = is_odd ? worker_.odd_ : worker_.ordinary_;
    for (uint32_t i = 0; i < count; ++i) {
      records.token(slot, now);
      if (records.tokens_of(slot) == 1)
        worker_.counters_.ttft.record(now - start.scheduled);
      else
        worker_.counters_.itl.record(records.last_gap(slot));
    }
    worker_.counters_.output_tokens.add(count);
    // Hundreds of sockets may be readable before the timer gets its turn.
    if (now >= worker_.due_)
      worker_.pump();
  }

  void ended(nanoseconds now, exchange_result result) override {
    worker_.finished(*this, now, std::move(result));
  }

  request_start start;
  recorder::slot slot = 0;
  std::shared_ptr<connection> over;
  nanoseconds deadline = 0;
  uint64_t conversation = 0;
  uint64_t turn = 0;
  prompt said; ///< Kept only for conversations.
  bool is_odd = false;
  bool active = false;

private:
  worker& worker_;
};

worker::worker(const run_settings& settings, run_clock clock, uint32_t share,
               std::atomic<uint64_t>& tickets)
    : settings_{settings}, context_{io_, *settings.to, *settings.speaks, clock},
      driver_{settings.plan, share, settings.workers, tickets},
      ordinary_{settings.warm_up,
                settings.duration > 0 ? settings.warm_up + settings.duration : nanoseconds{0}},
      odd_{ordinary_}, head_{request_head(*settings.to, "POST", settings.path,
                                          settings.speaks->accept())},
      limit_{settings.max_in_flight == 0
                 ? UINT32_MAX
                 : std::max<uint32_t>(1, settings.max_in_flight / settings.workers)},
      next_{io_}, sweep_{io_}, cpu_begin_{io_}, cpu_end_{io_} {
  if (!settings.keep_alive)
    head_ += "Connection: close\r\n";
}

worker::~worker() = default;

void worker::run() {
  // The kernel may else put a thread's timers off by 50 us to wake it less often.
  prctl(PR_SET_TIMERSLACK, timer_slack_ns, 0, 0, 0);
  // What is slow the first time is done before the clock starts.
  (void)settings_.speaks->body(settings_.prompts->make(0, 0));
  watch_cpu();
  check_timeouts();
  boost::asio::post(io_, [this] {
    pump();
    leave_if_done();
  });
  io_.run();
  if (!cpu_measured_)
    cpu_seconds_ = thread_cpu() - cpu_at_begin_;
}

void worker::stop() {
  boost::asio::post(io_, [this] {
    driver_.stop();
    waiting_.clear();
    for (size_t i = 0; i < lives_.size(); ++i)
      if (lives_[i]->active)
        lives_[i]->over->abort(outcome::cancelled, {});
    leave_if_done();
  });
}

void worker::watch_cpu() {
  cpu_at_begin_ = thread_cpu();
  cpu_begin_.expires_at(context_.clock.at(settings_.warm_up));
  cpu_begin_.async_wait([this](boost::system::error_code error) {
    if (!error)
      cpu_at_begin_ = thread_cpu();
  });
  if (settings_.duration == 0)
    return;
  cpu_end_.expires_at(context_.clock.at(settings_.warm_up + settings_.duration));
  cpu_end_.async_wait([this](boost::system::error_code error) {
    if (error)
      return;
    cpu_seconds_ = thread_cpu() - cpu_at_begin_;
    cpu_measured_ = true;
  });
}

void worker::pump() {
  due_ = INT64_MAX;
  for (int i = 0; i < most_at_once; ++i) {
    auto start = driver_.take_due(context_.clock.now());
    if (!start)
      return arm();
    if (active_ < limit_)
      begin(*start);
    else
      waiting_.push_back(*start);
  }
  boost::asio::post(io_, [this] { pump(); });
}

void worker::arm() {
  auto due = driver_.next_due();
  if (!due)
    return;
  due_ = *due;
  next_.expires_at(context_.clock.at(*due));
  next_.async_wait([this](boost::system::error_code error) {
    if (error)
      return;
    pump();
    leave_if_done();
  });
}

/// The new message behind what its conversation has said before.
prompt worker::next_prompt(life& l) {
  auto turns = settings_.plan.turns;
  auto users = settings_.plan.users;
  l.turn = l.start.turn % turns;
  l.conversation = l.start.turn / turns * std::max(1u, users) + l.start.user;
  auto out = settings_.prompts->make(l.conversation, l.turn);
  if (turns <= 1)
    return out;
  auto& history = conversations_[l.start.user];
  if (l.turn == 0)
    history.clear();
  if (!history.empty())
    out.tokens = 0; // the answers before are as long as they are
  history.insert(history.end(), out.messages.begin(), out.messages.end());
  out.messages = history;
  return out;
}

std::shared_ptr<connection> worker::connection_for(const manners& behaves) {
  // A slow reader needs a socket with a small buffer of its own.
  while (!idle_.empty() && behaves.read_bytes_per_s == 0) {
    auto c = std::move(idle_.back());
    idle_.pop_back();
    if (c->alive())
      return c;
  }
  return std::make_shared<connection>(context_);
}

void worker::begin(const request_start& start) {
  if (free_.empty()) {
    lives_.push_back(std::make_unique<life>(*this));
    free_.push_back(lives_.back().get());
  }
  auto& l = *free_.back();
  free_.pop_back();
  l.start = start;
  l.active = true;
  auto odd_possible = !settings_.odd.plain() || settings_.odd_kept_apart;
  l.is_odd = odd_possible && is_in_share(start.user, settings_.odd_share);
  auto said = next_prompt(l);
  auto request = with_body(head_, settings_.speaks->body(said));
  auto behaves = l.is_odd ? settings_.odd : manners{};
  l.over = connection_for(behaves);
  ++active_;
  counters_.started.add();
  auto now = context_.clock.now();
  l.deadline = settings_.timeout > 0 ? now + settings_.timeout : INT64_MAX;
  l.slot = (l.is_odd ? odd_ : ordinary_).begin(start.scheduled, now, said.tokens);
  l.over->start(std::move(request), settings_.plan.turns > 1, behaves, l);
}

void worker::finished(life& l, nanoseconds now, exchange_result result) {
  auto& records = l.is_odd ? odd_ : ordinary_;
  // What odd clients provoke is what they are there for.
  counters_.ended(l.is_odd && is_failure(result.end.ended) ? outcome::cancelled : result.end.ended);
  records.end(l.slot, now, result.end);
  if (result.reusable && settings_.keep_alive && !l.is_odd)
    idle_.push_back(std::move(l.over));
  l.over.reset();
  l.active = false;
  --active_;
  free_.push_back(&l);
  auto fine = result.end.ended == outcome::ok;
  if (settings_.plan.turns > 1) {
    auto& history = conversations_[l.start.user];
    if (fine)
      history.push_back({"assistant", std::move(result.text)});
    if (settings_.plan.users == 0 && (!fine || l.turn + 1 >= settings_.plan.turns))
      conversations_.erase(l.start.user);
  }
  driver_.finished(l.start, now, fine);
  if (!waiting_.empty() && active_ < limit_) {
    auto next = waiting_.front();
    waiting_.pop_front();
    begin(next);
  }
  // Not at once: a server that answers at once would have us call ourselves over and over.
  boost::asio::post(io_, [this] {
    pump();
    leave_if_done();
  });
}

void worker::leave_if_done() {
  if (active_ > 0 || !waiting_.empty() || !driver_.idle())
    return;
  left_ = true;
  next_.cancel();
  sweep_.cancel();
  cpu_begin_.cancel();
  if (!cpu_measured_) {
    cpu_seconds_ = thread_cpu() - cpu_at_begin_;
    cpu_measured_ = true;
  }
  cpu_end_.cancel();
  idle_.clear();
}

void worker::check_timeouts() {
  sweep_.expires_after(sweep_period);
  sweep_.async_wait([this](boost::system::error_code error) {
    // A timer that has expired already cannot be cancelled any more.
    if (error || left_)
      return;
    auto now = context_.clock.now();
    for (size_t i = 0; i < lives_.size(); ++i)
      if (auto& l = *lives_[i]; l.active && l.deadline <= now)
        l.over->abort(outcome::timed_out, "no complete answer within " +
                                              std::to_string(settings_.timeout / 1'000'000) +
                                              " ms");
    check_timeouts();
  });
}

void worker::drain_into(run_outcome& to) {
  ordinary_.drain_into(to.ordinary);
  odd_.drain_into(to.odd);
}

} // namespace troupe::load_test

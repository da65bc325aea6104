#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "troupe/examples/load_test/load/recorder.hpp"
#include "troupe/examples/load_test/report/live_counters.hpp"
#include "troupe/examples/load_test/run/settings.hpp"

namespace troupe::load_test {

/// One thread of a run: its share of the load, its connections, its records. `run` belongs to that
/// thread, `stop` and `counters` may be called by any, the rest after `run` has returned.
class worker {
public:
  worker(const run_settings& settings, run_clock clock, uint32_t share,
         std::atomic<uint64_t>& tickets);
  ~worker();

  /// Returns once every request of the share has ended.
  void run();

  /// Nothing new is sent, and what is in flight is broken off.
  void stop();

  /// Readable by any thread at any time.
  const report::live_counters& counters() const { return counters_; }

  void drain_into(run_outcome& to);
  double cpu_seconds() const { return cpu_seconds_; }

private:
  class life;

  void pump();
  void arm();
  void begin(const request_start& start);
  void finished(life& l, nanoseconds now, exchange_result result);
  prompt next_prompt(life& l);
  std::shared_ptr<connection> connection_for(const manners& behaves);
  void check_timeouts();
  void watch_cpu();
  void leave_if_done();

  const run_settings& settings_;
  boost::asio::io_context io_{1};
  client_context context_;
  driver driver_;
  recorder ordinary_;
  recorder odd_;
  std::string head_;
  uint32_t limit_;
  boost::asio::steady_timer next_, sweep_, cpu_begin_, cpu_end_;
  std::vector<std::shared_ptr<connection>> idle_;
  std::vector<std::unique_ptr<life>> lives_;
  std::vector<life*> free_;
  std::unordered_map<uint64_t, std::vector<chat_message>> conversations_;
  std::deque<request_start> waiting_; ///< For one of `limit_` places.
  nanoseconds due_ = INT64_MAX;       ///< Of the next request that is planned.
  uint32_t active_ = 0;
  double cpu_at_begin_ = 0;
  double cpu_seconds_ = 0;
  bool cpu_measured_ = false;
  bool left_ = false; ///< Everything has ended.
  report::live_counters counters_;
};

} // namespace troupe::load_test

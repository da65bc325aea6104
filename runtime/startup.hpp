#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "troupe/http/server.hpp"
#include "troupe/runtime/host.hpp"
#include "troupe/runtime/model_setup.hpp"

/// The models that a server begins with, and where all others come from.
namespace troupe::runtime {

/// How far the fetching of models is, by URL. Any thread.
class fetch_board {
public:
  struct entry {
    uint64_t done = 0; ///< Bytes.
    uint64_t total = 0;
    std::string what; ///< Empty: nothing is being fetched.
  };

  void set(const std::string& url, entry now);
  entry get(const std::string& url) const;

private:
  mutable std::mutex guard_;
  std::map<std::string, entry> entries_;
};

/// Prepares models as the settings say.
/// @param dummy Every model is the one without weights.
/// @param board Told of progress; may be null.
http::model_source make_source(config::sources from, config::settings server, bool dummy,
                               std::shared_ptr<fetch_board> board);

/// What became of the start-up models.
struct startup_result {
  std::vector<model_status> ready; ///< In the order of the requests.
  std::vector<caf::error> failed;  ///< One for each that did not load.
  bool cancelled = false;          ///< By a signal; what was not there by then is in neither list.
};

/// Has the front end register all of them at once, and waits for each in turn while showing on a
/// terminal how far it is. Ends with the first failure if `all_or_none`. @pre take_signals()
startup_result load_models(host& running, http::server& front,
                           const std::vector<config::model_request>& wanted, bool all_or_none,
                           const fetch_board& board);

} // namespace troupe::runtime

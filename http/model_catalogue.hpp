#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <caf/error.hpp>

#include "troupe/actors/generation.hpp"
#include "troupe/http/settings.hpp"

namespace troupe::http {

/// A model that a front end serves, or is about to.
struct catalogued_model {
  enum class phase : uint8_t { preparing, loading, ready, failed };

  uint64_t serial = 0; ///< Tells it from earlier ones of the same name; given by `add`.
  std::string name;
  std::string version; ///< Empty: none.
  std::string url;
  bool at_startup = false;
  phase state = phase::preparing;
  std::string problem;                             ///< Why it failed.
  std::shared_ptr<const dialect_settings> dialect; ///< Null while it is being prepared.
  std::stop_source stop;                           ///< Of its preparation.
};

/// What a front end knows of its models: which there are, in whose manner each answers, and what
/// the engine has not heard of yet. All functions may be called from any thread; a look-up takes a
/// snapshot and waits for nobody.
class model_catalogue {
public:
  model_catalogue();

  /// Enters a model. @returns its serial number. Errors: ec::name_taken.
  caf::expected<uint64_t> add(catalogued_model model);

  /// Its files and settings are known; its name may have turned out to be another. Errors:
  /// ec::cancelled (it was removed meanwhile), ec::name_taken.
  caf::error prepared(uint64_t serial, const std::string& name,
                      std::shared_ptr<const dialect_settings> dialect);
  /// It serves. Errors: ec::cancelled (it was removed meanwhile).
  caf::error ready(uint64_t serial);
  /// It stays listed, with this reason.
  void failed(uint64_t serial, std::string problem);

  void remove(uint64_t serial);
  /// Removes a version, or all; ends preparations. @returns whether there was one.
  bool remove(const std::string& name, const std::optional<std::string>& version);
  /// Ends all preparations.
  void stop();

  /// The model that a request means: of that name, or the only start-up model; of that version, or
  /// the next one in turn that is ready. Nullopt when there is none, or none is meant.
  std::optional<catalogued_model> choose(const std::string& name, const std::string& version) const;
  bool knows(const std::string& name) const;
  /// Whether all versions of that name answer in the same manner, so that one may stand in for
  /// another after the request was read in its manner.
  bool alike(const std::string& name) const;

  /// Adds those that the engine does not know.
  std::vector<model_status> complete(std::vector<model_status> known) const;

private:
  using table = std::vector<catalogued_model>; ///< By name and version.

  std::shared_ptr<const table> now() const { return table_.load(std::memory_order_acquire); }
  template <class F>
  auto change(F f);

  std::mutex writing_; ///< Of who replaces the table.
  std::atomic<std::shared_ptr<const table>> table_;
  mutable std::atomic<size_t> turn_{0};
  uint64_t serials_ = 0;
};

} // namespace troupe::http

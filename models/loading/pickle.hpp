#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::models {

struct pickle_value;
using pickle_ptr = pickle_value*; ///< Never null; owned by its `pickle`. There may be cycles.

/// A class or function that a pickle names; it is never looked up, let alone called.
struct pickle_global {
  std::string module;
  std::string name;
  std::string full() const { return module + "." + name; }
};

/// What a pickle would have called, with its arguments.
struct pickle_call {
  pickle_global what;
  std::vector<pickle_ptr> arguments;
};

/// What a pickle keeps outside of itself, by the name that it has there.
struct pickle_reference {
  pickle_ptr id;
};

using pickle_sequence = std::vector<pickle_ptr>; ///< A tuple or a list.
using pickle_dict = std::vector<std::pair<pickle_ptr, pickle_ptr>>;

struct pickle_value {
  std::variant<std::monostate, bool, int64_t, double, std::string, pickle_sequence, pickle_dict,
               pickle_global, pickle_call, pickle_reference>
      content;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&content);
  }
};

/// Everything that a pickle has made, and the value that it is for.
struct pickle {
  std::deque<pickle_value> values;
  pickle_ptr root = nullptr;
};

/// Reads Python's pickles as plain data: protocols 2 to 4, and of their instructions those that
/// build values. Calls are recorded, not made; an OrderedDict counts as a dict. State that a call's
/// result is given (BUILD) is dropped.
/// Errors: ec::bad_model: one sentence without the file's name.
caf::expected<pickle> read_pickle(std::span<const std::byte> bytes);

} // namespace troupe::models

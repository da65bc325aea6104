#pragma once

#include <utility>

#include <caf/all.hpp>

namespace troupe {

/// Spawns with a thread of its own, unless a test wants to move every message itself.
template <class Self, class F, class... Ts>
auto spawn_apart(Self self, bool detached, F f, Ts&&... xs) {
  return detached ? self->template spawn<caf::detached>(f, std::forward<Ts>(xs)...)
                  : self->spawn(f, std::forward<Ts>(xs)...);
}

} // namespace troupe

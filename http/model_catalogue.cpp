#include "troupe/http/model_catalogue.hpp"

#include <algorithm>
#include <tuple>

#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

using phase = catalogued_model::phase;

auto key_of(const catalogued_model& x) {
  return std::tie(x.name, x.version);
}

template <class Table>
auto find_serial(Table& table, uint64_t serial) {
  return std::find_if(table.begin(), table.end(),
                      [=](const auto& x) { return x.serial == serial; });
}

caf::error taken(const std::string& label) {
  return caf::make_error(ec::name_taken, "model '" + label +
                                             "' is registered already: unregister it first, or "
                                             "choose another name or version");
}

caf::error removed() {
  return caf::make_error(ec::cancelled,
                         std::string{"the model was unregistered before it had loaded"});
}

} // namespace

model_catalogue::model_catalogue() : table_(std::make_shared<const table>()) {}

/// Readers keep the table that they have; the next one is a changed copy of it.
template <class F>
auto model_catalogue::change(F f) {
  std::lock_guard lock{writing_};
  auto next = std::make_shared<table>(*now());
  auto result = f(*next);
  std::sort(next->begin(), next->end(),
            [](const auto& x, const auto& y) { return key_of(x) < key_of(y); });
  table_.store(std::move(next), std::memory_order_release);
  return result;
}

caf::expected<uint64_t> model_catalogue::add(catalogued_model model) {
  return change([&](table& all) -> caf::expected<uint64_t> {
    for (const auto& x : all)
      if (key_of(x) == key_of(model))
        return taken(label_of(model.name, model.version));
    model.serial = ++serials_;
    all.push_back(std::move(model));
    return serials_;
  });
}

caf::error model_catalogue::prepared(uint64_t serial, const std::string& name,
                                     std::shared_ptr<const dialect_settings> dialect) {
  return change([&](table& all) -> caf::error {
    auto it = find_serial(all, serial);
    if (it == all.end())
      return removed();
    for (const auto& x : all)
      if (x.serial != serial && x.name == name && x.version == it->version)
        return taken(label_of(name, it->version));
    it->name = name;
    it->dialect = std::move(dialect);
    it->state = phase::loading;
    return {};
  });
}

caf::error model_catalogue::ready(uint64_t serial) {
  return change([&](table& all) -> caf::error {
    auto it = find_serial(all, serial);
    if (it == all.end())
      return removed();
    it->state = phase::ready;
    return {};
  });
}

void model_catalogue::failed(uint64_t serial, std::string problem) {
  change([&](table& all) {
    if (auto it = find_serial(all, serial); it != all.end()) {
      it->state = phase::failed;
      it->problem = std::move(problem);
    }
    return 0;
  });
}

void model_catalogue::remove(uint64_t serial) {
  change([&](table& all) {
    return std::erase_if(all, [=](const auto& x) { return x.serial == serial; });
  });
}

bool model_catalogue::remove(const std::string& name, const std::optional<std::string>& version) {
  return change([&](table& all) {
    auto gone = [&](catalogued_model& x) {
      if (x.name != name || x.version != version.value_or(x.version))
        return false;
      x.stop.request_stop();
      return true;
    };
    return std::erase_if(all, gone) > 0;
  });
}

void model_catalogue::stop() {
  for (auto& x : *now())
    std::stop_source{x.stop}.request_stop();
}

std::optional<catalogued_model> model_catalogue::choose(const std::string& name,
                                                        const std::string& version) const {
  const auto all = now();
  std::string wanted = name;
  if (wanted.empty())
    for (const auto& x : *all) {
      if (!x.at_startup || x.name == wanted)
        continue;
      if (!wanted.empty())
        return std::nullopt;
      wanted = x.name;
    }
  std::vector<const catalogued_model*> found;
  for (const auto& x : *all)
    if (!wanted.empty() && x.name == wanted && (version.empty() || x.version == version))
      found.push_back(&x);
  auto able = [](const auto* x) { return x->state == phase::ready; };
  if (std::any_of(found.begin(), found.end(), able))
    std::erase_if(found, [=](const auto* x) { return !able(x); });
  if (found.empty())
    return std::nullopt;
  const auto turn = found.size() > 1 ? turn_.fetch_add(1, std::memory_order_relaxed) : 0;
  return *found[turn % found.size()];
}

bool model_catalogue::knows(const std::string& name) const {
  const auto all = now();
  return std::any_of(all->begin(), all->end(), [&](const auto& x) { return x.name == name; });
}

bool model_catalogue::alike(const std::string& name) const {
  const auto all = now();
  const dialect_settings* first = nullptr;
  for (const auto& x : *all) {
    if (x.name != name || !x.dialect)
      continue;
    if (first && *first != *x.dialect)
      return false;
    first = x.dialect.get();
  }
  return true;
}

std::vector<model_status> model_catalogue::complete(std::vector<model_status> known) const {
  for (const auto& x : *now()) {
    auto same = [&](const model_status& m) {
      return m.name == x.name && m.registered.version == x.version;
    };
    if (std::any_of(known.begin(), known.end(), same))
      continue;
    model_status m;
    m.name = x.name;
    m.state = x.state == phase::failed ? model_state::failed : model_state::loading;
    m.problem = x.problem;
    m.registered.version = x.version;
    m.registered.url = x.url;
    m.registered.at_startup = x.at_startup;
    m.groups.emplace_back();
    known.push_back(std::move(m));
  }
  std::sort(known.begin(), known.end(), [](const auto& x, const auto& y) {
    return std::tie(x.name, x.registered.version) < std::tie(y.name, y.registered.version);
  });
  return known;
}

} // namespace troupe::http

#include <cmath>
#include <stdexcept>

#include "troupe/config/guarded.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/json_report.hpp"
#include "troupe/http/json/value.hpp"

namespace troupe::load_test::report {

namespace {

namespace json = http::json;

/// A value and where it stands, so that an error can say so. Throws std::runtime_error, which
/// `parse_json` turns into an error value.
class place {
public:
  place(const json::value& value, std::string path) : value_(&value), path_(std::move(path)) {}

  place operator[](std::string_view name) const {
    auto* members = value_->as_object();
    if (!members)
      wrong("an object");
    auto* member = value_->find(name);
    if (!member)
      throw std::runtime_error{inner(name) + " is missing; is this a file of troupe-load?"};
    return {*member, inner(name)};
  }

  bool has(std::string_view name) const { return value_->find(name) != nullptr; }
  bool is_null() const { return value_->is_null(); }

  std::vector<place> elements() const {
    auto* list = value_->as_array();
    if (!list)
      wrong("an array");
    std::vector<place> all;
    all.reserve(list->size());
    for (size_t i = 0; i < list->size(); ++i)
      all.emplace_back((*list)[i], path_ + "[" + std::to_string(i) + "]");
    return all;
  }

  std::string text() const {
    auto* x = value_->as_string();
    if (!x)
      wrong("a string");
    return *x;
  }

  bool boolean() const {
    auto* x = value_->as_bool();
    if (!x)
      wrong("true or false");
    return *x;
  }

  /// Finite and not negative, as every figure is.
  double number() const {
    if (!value_->is_number() || !std::isfinite(value_->number()) || value_->number() < 0)
      wrong("a number of 0 or more");
    return value_->number();
  }

  uint64_t count(uint64_t most = uint64_t{1} << 53) const {
    auto n = any_unsigned();
    if (n > most)
      wrong("a whole number of " + std::to_string(most) + " at most");
    return n;
  }

  uint64_t any_unsigned() const {
    if (auto* u = value_->as_unsigned())
      return *u;
    auto* i = value_->as_integer();
    if (!i || *i < 0)
      wrong("a whole number of 0 or more");
    return static_cast<uint64_t>(*i);
  }

  std::vector<std::pair<std::string, std::string>> texts_by_name() const {
    auto* members = value_->as_object();
    if (!members)
      wrong("an object");
    std::vector<std::pair<std::string, std::string>> all;
    for (auto& [name, member] : *members)
      all.emplace_back(name, place{member, inner(name)}.text());
    return all;
  }

  [[noreturn]] void wrong(const std::string& expected) const {
    auto what = path_.empty() ? std::string{"the file"} : path_;
    throw std::runtime_error{what + ": expected " + expected + ", found " +
                             std::string{value_->kind()}};
  }

private:
  std::string inner(std::string_view name) const {
    return path_.empty() ? std::string{name} : path_ + "." + std::string{name};
  }

  const json::value* value_;
  std::string path_;
};

run_description read_description(const place& at) {
  run_description what;
  what.version = at["version"].text();
  what.started_at_unix_ms = static_cast<int64_t>(at["started_at_unix_ms"].count());
  what.url = at["url"].text();
  what.dialect = at["dialect"].text();
  what.model = at["model"].text();
  what.load = at["load"].text();
  what.rate = at["rate"].number();
  what.users = static_cast<uint32_t>(at["users"].count(UINT32_MAX));
  what.seed = at["seed"].any_unsigned();
  what.settings = at["settings"].texts_by_name();
  return what;
}

distribution read_distribution(const place& at) {
  distribution d;
  d.count = at["count"].count();
  if (d.count > 0)
    for (auto& part : distribution_parts())
      d.*part.value = at[part.name].number();
  return d;
}

outcome read_outcome(const place& at) {
  auto name = at.text();
  for (size_t i = 0; i < static_cast<size_t>(outcome::count); ++i)
    if (name == name_of(static_cast<outcome>(i)))
      return static_cast<outcome>(i);
  at.wrong("the name of a kind of failure, not '" + name.substr(0, 40) + "'");
}

objective_verdict read_verdict(const place& at) {
  objective_verdict v;
  auto goals = parse_objectives(at["objective"].text());
  if (!goals || goals->size() != 1)
    at["objective"].wrong("one objective, as in ttft_p99=500ms");
  v.goal = goals->front();
  v.met = at["met"].boolean();
  if (auto measured = at["measured_ms"]; !measured.is_null())
    v.measured_ms = measured.number();
  v.why = at["why"].text();
  return v;
}

remark read_remark(const place& at) {
  auto grade = at["grade"].text();
  if (grade != "spoilt" && grade != "warning")
    at["grade"].wrong("\"spoilt\" or \"warning\"");
  return {grade == "spoilt" ? remark::grade::spoilt : remark::grade::warning, at["text"].text()};
}

sparse_histogram read_sketch(const place& at) {
  sparse_histogram sketch;
  auto flat = at.elements();
  if (flat.size() % 2 != 0)
    at.wrong("pairs of bin and count");
  for (size_t i = 0; i < flat.size(); i += 2)
    sketch.entries.push_back({static_cast<uint32_t>(flat[i].count(histogram_bins::count - 1)),
                              flat[i + 1].count(uint64_t{1} << 40)});
  return sketch;
}

timeline read_blocks(const place& at) {
  timeline t;
  t.block_s = at["block_s"].number();
  if (t.block_s <= 0)
    at["block_s"].wrong("a length above 0");
  auto tokens = at["output_tokens"].elements();
  t.blocks.resize(tokens.size());
  t.within = at["within"].count(t.blocks.size());
  auto each = [&](std::string_view name, auto&& read) {
    auto list = at[name].elements();
    if (list.size() != t.blocks.size())
      at[name].wrong(std::to_string(t.blocks.size()) + " entries, as in output_tokens, not " +
                     std::to_string(list.size()));
    for (size_t i = 0; i < list.size(); ++i)
      read(list[i], t.blocks[i]);
  };
  each("output_tokens", [](const place& x, time_block& b) { b.output_tokens = x.count(); });
  each("completed", [](const place& x, time_block& b) { b.completed = x.count(); });
  each("good", [](const place& x, time_block& b) { b.good = x.count(); });
  each("failed", [](const place& x, time_block& b) { b.failed = x.count(); });
  each("active", [](const place& x, time_block& b) { b.active = x.number(); });
  each("completed_spread", [](const place& x, time_block& b) { b.completed_spread = x.number(); });
  each("good_spread", [](const place& x, time_block& b) { b.good_spread = x.number(); });
  for (auto& g : latency_groups())
    if (g.sketch)
      each(g.name.substr(0, g.name.size() - 3),
           [&](const place& x, time_block& b) { b.*g.sketch = read_sketch(x); });
  return t;
}

summary read_run(const place& at) {
  summary s;
  s.what = read_description(at);
  s.measured_s = at["measured_s"].number();
  auto requests = at["requests"];
  s.requests = requests["measured"].count();
  s.completed = requests["completed"].count();
  s.failed = requests["failed"].count();
  auto cancelled = requests["cancelled"].count();
  if (s.completed + s.failed + cancelled != s.requests)
    requests.wrong("completed, failed and cancelled that add up to measured");
  s.by_outcome[static_cast<size_t>(outcome::ok)] = s.completed;
  s.by_outcome[static_cast<size_t>(outcome::cancelled)] = cancelled;
  for (size_t i = 0; i < s.by_outcome.size(); ++i)
    if (auto* name = name_of(static_cast<outcome>(i)); at["errors"].has(name))
      s.by_outcome[i] = at["errors"][name].count();
  s.prompt_tokens = at["prompt_tokens"].count();
  s.output_tokens = at["output_tokens"].count();
  for (auto& f : figures())
    if (f.is_rate())
      f.of(s) = at[f.group].number();
  for (auto& g : latency_groups())
    s.*g.figures = read_distribution(at[g.name]);
  for (auto& x : at["error_texts"].elements())
    s.failure_texts.emplace_back(read_outcome(x["kind"]), x["text"].text());
  s.workers = static_cast<uint32_t>(at["generator"]["workers"].count(UINT32_MAX));
  s.worker_cpu_share = at["generator"]["cpu_share"].number();
  for (auto& x : at["objectives"].elements())
    s.objectives.push_back(read_verdict(x));
  for (auto& x : at["remarks"].elements())
    s.remarks.push_back(read_remark(x));
  s.over_time = read_blocks(at["blocks"]);
  return s;
}

load_point read_point(const place& at) {
  load_point point;
  auto kind = at["kind"].text();
  if (kind == "run") {
    point.repeats.push_back(read_run(at));
    return point;
  }
  if (kind != "repeats")
    at["kind"].wrong("\"run\" or \"repeats\", not '" + kind.substr(0, 40) + "'");
  for (auto& x : at["repeats"].elements())
    point.repeats.push_back(read_run(x));
  if (point.repeats.empty())
    at["repeats"].wrong("one repeat at least");
  return point;
}

test_report read_report(const place& file) {
  if (file["format"].text() != "troupe-load")
    file["format"].wrong("\"troupe-load\"");
  if (file["format_version"].count() != 1)
    file["format_version"].wrong(
        "1; the file was written by a newer troupe-load, which can read it");
  test_report report;
  if (file["kind"].text() != "sweep") {
    report.points.push_back(read_point(file));
    return report;
  }
  report.swept = file["swept"].text();
  if (report.swept != "rate" && report.swept != "users")
    file["swept"].wrong("\"rate\" or \"users\"");
  if (auto search = file["search"]; !search.is_null()) {
    auto highest = search["highest"];
    report.search = search_answer{
        highest.is_null() ? std::nullopt : std::optional{highest.number()}, search["note"].text()};
  }
  for (auto& x : file["points"].elements())
    report.points.push_back(read_point(x));
  if (report.points.empty())
    file["points"].wrong("one point at least");
  return report;
}

} // namespace

caf::expected<test_report> parse_json(std::string_view text) {
  auto tree = json::parse(text);
  if (!tree)
    return tree.error();
  return guarded(ec::invalid_request, [&] { return read_report({*tree, ""}); });
}

} // namespace troupe::load_test::report

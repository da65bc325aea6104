#include "troupe/examples/load_test/report/json_report.hpp"

#include <cmath>

#include "troupe/examples/load_test/report/confidence.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::load_test::report {

namespace {

namespace json = http::json;

json::value finite(double x) {
  return std::isfinite(x) ? json::value{x} : json::value{};
}

/// Objects and lists of objects on lines of their own, lists of numbers on one line.
void append_indented(std::string& out, const json::value& x, int depth) {
  auto line = [&](int d) { out.append(1, '\n').append(static_cast<size_t>(d) * 2, ' '); };
  if (auto* members = x.as_object(); members && !members->empty()) {
    out += '{';
    for (auto& member : *members) {
      if (&member != &members->front())
        out += ',';
      line(depth + 1);
      json::append_string(out, member.first);
      out += ": ";
      append_indented(out, member.second, depth + 1);
    }
    line(depth);
    out += '}';
  } else if (auto* elements = x.as_array();
             elements && !elements->empty() && !elements->front().is_number()) {
    out += '[';
    for (auto& element : *elements) {
      if (&element != &elements->front())
        out += ',';
      line(depth + 1);
      append_indented(out, element, depth + 1);
    }
    line(depth);
    out += ']';
  } else {
    json::append_value(out, x);
  }
}

void add_description(json::object& out, const run_description& what) {
  out.emplace_back("version", what.version);
  out.emplace_back("started_at_unix_ms", what.started_at_unix_ms);
  out.emplace_back("url", what.url);
  out.emplace_back("dialect", what.dialect);
  out.emplace_back("model", what.model);
  out.emplace_back("load", what.load);
  out.emplace_back("rate", finite(what.rate));
  out.emplace_back("users", int64_t{what.users});
  out.emplace_back("seed", what.seed);
  json::object settings;
  for (auto& [name, setting] : what.settings)
    settings.emplace_back(name, setting);
  out.emplace_back("settings", std::move(settings));
}

json::value distribution_value(const distribution& d) {
  json::object out;
  out.emplace_back("count", d.count);
  if (d.count > 0)
    for (auto& part : distribution_parts())
      out.emplace_back(std::string{part.name}, finite(d.*part.value));
  return out;
}

json::value intervals_value(const std::vector<std::optional<interval>>& intervals) {
  auto pair_of = [](const interval& x) { return json::array{finite(x.low), finite(x.high)}; };
  json::object out;
  for (size_t i = 0; i < intervals.size(); ++i)
    if (intervals[i] && figures()[i].is_rate())
      out.emplace_back(std::string{figures()[i].group}, pair_of(*intervals[i]));
  for (auto& g : latency_groups()) {
    json::object members;
    for (size_t i = 0; i < intervals.size(); ++i)
      if (intervals[i] && figures()[i].group == g.name)
        members.emplace_back(std::string{figures()[i].member}, pair_of(*intervals[i]));
    if (!members.empty())
      out.emplace_back(std::string{g.name}, std::move(members));
  }
  return out;
}

json::value errors_value(const summary& s) {
  json::object out;
  for (size_t i = 0; i < s.by_outcome.size(); ++i) {
    auto kind = static_cast<outcome>(i);
    if (kind != outcome::ok && kind != outcome::cancelled)
      out.emplace_back(name_of(kind), s.by_outcome[i]);
  }
  return out;
}

json::value error_texts_value(const summary& s) {
  json::array out;
  for (auto& [kind, text] : s.failure_texts)
    out.push_back(json::object{{"kind", std::string{name_of(kind)}}, {"text", text}});
  return out;
}

json::value objectives_value(const summary& s) {
  json::array out;
  for (auto& v : s.objectives)
    out.push_back(
        json::object{{"objective", to_string(v.goal)},
                     {"met", v.met},
                     {"measured_ms", v.measured_ms ? finite(*v.measured_ms) : json::value{}},
                     {"why", v.why}});
  return out;
}

json::value remarks_value(const summary& s) {
  json::array out;
  for (auto& r : s.remarks) {
    std::string grade = r.how == remark::grade::spoilt ? "spoilt" : "warning";
    out.push_back(json::object{{"grade", std::move(grade)}, {"text", r.text}});
  }
  return out;
}

json::value sketches_value(const timeline& t, sparse_histogram time_block::*sketch) {
  json::array out;
  for (auto& b : t.blocks) {
    json::array flat;
    for (auto& e : (b.*sketch).entries) {
      flat.emplace_back(int64_t{e.bin});
      flat.emplace_back(e.times);
    }
    out.emplace_back(std::move(flat));
  }
  return out;
}

json::value blocks_value(const timeline& t) {
  json::object out;
  out.emplace_back("block_s", t.block_s);
  out.emplace_back("within", uint64_t{t.within});
  auto list = [&](const char* name, auto time_block::*member) {
    json::array values;
    for (auto& b : t.blocks)
      values.emplace_back(b.*member);
    out.emplace_back(name, std::move(values));
  };
  list("output_tokens", &time_block::output_tokens);
  list("completed", &time_block::completed);
  list("good", &time_block::good);
  list("failed", &time_block::failed);
  list("active", &time_block::active);
  list("completed_spread", &time_block::completed_spread);
  list("good_spread", &time_block::good_spread);
  for (auto& g : latency_groups())
    if (g.sketch)
      out.emplace_back(std::string{g.name.substr(0, g.name.size() - 3)},
                       sketches_value(t, g.sketch));
  return out;
}

void add_figures(json::object& out, const summary& s) {
  out.emplace_back("measured_s", finite(s.measured_s));
  out.emplace_back("requests", json::object{{"measured", s.requests},
                                            {"completed", s.completed},
                                            {"failed", s.failed},
                                            {"cancelled", s.requests - s.completed - s.failed}});
  out.emplace_back("prompt_tokens", s.prompt_tokens);
  out.emplace_back("output_tokens", s.output_tokens);
  for (auto& f : figures())
    if (f.is_rate())
      out.emplace_back(std::string{f.group}, finite(f.of(s)));
  for (auto& g : latency_groups())
    out.emplace_back(std::string{g.name}, distribution_value(s.*g.figures));
}

void add_judgement(json::object& out, const summary& s) {
  out.emplace_back("errors", errors_value(s));
  out.emplace_back("error_texts", error_texts_value(s));
  out.emplace_back("generator", json::object{{"workers", int64_t{s.workers}},
                                             {"cpu_share", finite(s.worker_cpu_share)}});
  out.emplace_back("objectives", objectives_value(s));
  out.emplace_back("objectives_met", objectives_met(s));
  out.emplace_back("trusted", !spoilt(s.remarks));
  out.emplace_back("remarks", remarks_value(s));
}

void add_run(json::object& out, const summary& s) {
  add_description(out, s.what);
  add_figures(out, s);
  add_judgement(out, s);
  out.emplace_back("blocks", blocks_value(s.over_time));
}

void add_point(json::object& out, const load_point& point) {
  auto all = combined(point);
  out.emplace_back("kind", std::string{point.repeats.size() > 1 ? "repeats" : "run"});
  add_description(out, all.what);
  add_figures(out, all);
  out.emplace_back("confidence_95", intervals_value(confidence_intervals(point)));
  add_judgement(out, all);
  if (point.repeats.size() == 1) {
    out.emplace_back("blocks", blocks_value(all.over_time));
    return;
  }
  json::array repeats;
  for (auto& r : point.repeats) {
    json::object one;
    add_run(one, r);
    repeats.emplace_back(std::move(one));
  }
  out.emplace_back("repeats", std::move(repeats));
}

void add_sweep(json::object& out, const test_report& report) {
  out.emplace_back("kind", std::string{"sweep"});
  add_description(out, report.points.front().repeats.front().what);
  out.emplace_back("swept", report.swept);
  json::value search;
  if (auto& found = report.search)
    search = json::object{{"highest", found->highest ? finite(*found->highest) : json::value{}},
                          {"note", found->note}};
  out.emplace_back("search", std::move(search));
  json::array points;
  for (auto& p : report.points) {
    json::object one;
    add_point(one, p);
    points.emplace_back(std::move(one));
  }
  out.emplace_back("points", std::move(points));
}

} // namespace

std::string to_json(const test_report& report) {
  json::object out{{"format", std::string{"troupe-load"}}, {"format_version", int64_t{1}}};
  if (report.is_sweep())
    add_sweep(out, report);
  else
    add_point(out, report.points.front());
  std::string text;
  append_indented(text, out, 0);
  text += '\n';
  return text;
}

} // namespace troupe::load_test::report

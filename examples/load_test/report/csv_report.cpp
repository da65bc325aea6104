#include "troupe/examples/load_test/report/csv_report.hpp"

#include <charconv>

#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/figures.hpp"

namespace troupe::load_test::report {

namespace {

/// Collects a line; numbers are written so that they read back as the same.
class line {
public:
  line& text(std::string_view x) {
    begin_field();
    text_ += csv_text(x);
    return *this;
  }
  line& number(double x) {
    begin_field();
    char digits[40];
    text_.append(digits, std::to_chars(digits, digits + sizeof digits, x).ptr);
    return *this;
  }
  line& count(uint64_t x) {
    begin_field();
    text_ += std::to_string(x);
    return *this;
  }
  line& flag(bool x) {
    begin_field();
    text_ += x ? "true" : "false";
    return *this;
  }
  /// Milliseconds to the microsecond: finer is noise, and lines stay readable.
  line& milliseconds(std::optional<double> nanoseconds) {
    begin_field();
    if (nanoseconds) {
      char digits[64];
      auto end = std::to_chars(digits, digits + sizeof digits, *nanoseconds / 1e6,
                               std::chars_format::fixed, 3)
                     .ptr;
      text_.append(digits, end);
    }
    return *this;
  }
  line& nothing() {
    begin_field();
    return *this;
  }
  void end(std::ostream& out) {
    text_ += '\n';
    out.write(text_.data(), static_cast<std::streamsize>(text_.size()));
    text_.clear();
    first_ = true;
  }

private:
  void begin_field() {
    if (!std::exchange(first_, false))
      text_ += ',';
  }
  std::string text_;
  bool first_ = true;
};

bool is_error(size_t kind) {
  auto o = static_cast<outcome>(kind);
  return o != outcome::ok && o != outcome::cancelled;
}

} // namespace

void write_requests_csv_header(std::ostream& out) {
  out << "run,repeat,request,scheduled_ms,send_lateness_ms,ttft_ms,tpot_ms,itl_p50_ms,itl_max_ms,"
         "e2e_ms,end_ms,prompt_tokens,output_tokens,status,outcome,measured\n";
}

void write_requests_csv(std::ostream& out, const run_results& results, size_t run, size_t repeat) {
  line l;
  std::vector<nanoseconds> gaps;
  size_t n = 0;
  auto since = [](nanoseconds from, nanoseconds to) { return static_cast<double>(to - from); };
  for (auto& r : results.requests) {
    auto own = gaps_of(results, r);
    gaps.assign(own.begin(), own.end());
    auto gap = [&](double p) {
      return gaps.empty() ? std::optional<double>{} : percentile(gaps, p);
    };
    auto when = [&](bool there, nanoseconds t) {
      return there ? std::optional{since(r.scheduled, t)} : std::nullopt;
    };
    auto tpot = time_per_output_token(r);
    l.count(run).count(repeat).count(++n);
    l.milliseconds(since(results.begin, r.scheduled)).milliseconds(when(r.sent != 0, r.sent));
    l.milliseconds(when(r.first_token != 0, r.first_token));
    l.milliseconds(tpot ? std::optional{static_cast<double>(*tpot)} : std::nullopt);
    l.milliseconds(gap(50)).milliseconds(gap(100));
    l.milliseconds(when(r.ended == outcome::ok, r.end)).milliseconds(since(results.begin, r.end));
    l.count(r.prompt_tokens).count(r.output_tokens).count(r.status).text(name_of(r.ended));
    l.flag(r.measured).end(out);
  }
}

void write_summary_csv(std::ostream& out, const test_report& report) {
  line l;
  for (auto* name : {"url", "dialect", "model", "load", "rate", "users", "seed", "repeats",
                     "measured_s", "requests.measured", "requests.completed", "requests.failed",
                     "prompt_tokens", "output_tokens"})
    l.text(name);
  for (auto& f : figures())
    l.text(f.name());
  for (size_t i = 0; i < static_cast<size_t>(outcome::count); ++i)
    if (is_error(i))
      l.text(std::string{"errors."} + name_of(static_cast<outcome>(i)));
  l.text("generator.cpu_share").text("objectives_met").text("trusted").end(out);
  for (auto& point : report.points) {
    auto s = combined(point);
    l.text(s.what.url).text(s.what.dialect).text(s.what.model).text(s.what.load);
    l.number(s.what.rate).count(s.what.users).count(s.what.seed).count(point.repeats.size());
    l.number(s.measured_s).count(s.requests).count(s.completed).count(s.failed);
    l.count(s.prompt_tokens).count(s.output_tokens);
    for (auto& f : figures())
      f.present(s) ? l.number(f.of(s)) : l.nothing();
    for (size_t i = 0; i < s.by_outcome.size(); ++i)
      if (is_error(i))
        l.count(s.by_outcome[i]);
    l.number(s.worker_cpu_share).flag(objectives_met(s)).flag(!spoilt(s.remarks)).end(out);
  }
}

} // namespace troupe::load_test::report

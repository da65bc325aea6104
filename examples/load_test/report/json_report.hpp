#pragma once

#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/report/test_report.hpp"

/// The JSON file: every figure under a name that carries its unit, fields in a fixed order, and
/// enough beside them to compare two files without their samples.
///
/// A run:
///   format, format_version   "troupe-load", 1
///   kind                     "run", "repeats" or "sweep"
///   version, started_at_unix_ms, url, dialect, model, load, rate, users, seed, settings{flag:
///   value} measured_s               length of the measured time; over all repeats requests
///   {measured, completed, failed, cancelled} prompt_tokens, output_tokens output_tokens_per_s,
///   requests_per_s, goodput_requests_per_s ttft_ms, itl_ms, tpot_ms, e2e_ms, send_lateness_ms
///                            {count, mean, p50, p90, p95, p99, p99.9, max}; without samples only
///                            {count: 0}
///   confidence_95            the same names, each [low, high]; what has no interval is left out
///   errors                   {refused: n, ...}: requests by kind of failure
///   error_texts              [{kind, text}]: the first few, as the server or the system said them
///   generator                {workers, cpu_share}
///   objectives               [{objective, met, measured_ms (null: none), why}]
///   objectives_met           all of them
///   trusted                  false where the generator spoilt the result
///   remarks                  [{grade: "spoilt" or "warning", text}]
///   blocks                   {block_s, within, output_tokens[], completed[], good[], failed[],
///                            active[], completed_spread[], good_spread[], ttft[], itl[], tpot[],
///                            e2e[]}: one entry per block; see `time_block`
///
/// A latency's entry is its sketch [bin, count, bin, count, ...]. Bin 0 holds what is below 1024
/// ns, bin 1 + 32 k + j begins at 2^(10 + k) * (1 + j / 32) ns.
///
/// Repeats: the same with the figures of `combined`, no blocks, and `repeats`, a list of runs.
///
/// Sweep: format, kind, version, url, ..., settings, then `swept` ("rate" or "users"), `search`
/// ({highest, note}, null without a search) and `points`, a list of runs or repeats.
namespace troupe::load_test::report {

/// The whole file, indented, with a line feed at its end. No NaN, no infinity.
std::string to_json(const test_report& report);

/// Reads what `to_json` wrote, back to the same report. Errors: ec::invalid_request, which says
/// what stands where ("points[2].ttft_ms.p99: ...") and what was expected.
caf::expected<test_report> parse_json(std::string_view text);

} // namespace troupe::load_test::report

#include "troupe/examples/load_test/report/figures.hpp"

#include <array>

namespace troupe::load_test::report {

namespace {

constexpr std::array parts{
    distribution_part{"mean", &distribution::mean, -1},
    distribution_part{"p50", &distribution::p50, 50},
    distribution_part{"p90", &distribution::p90, 90},
    distribution_part{"p95", &distribution::p95, 95},
    distribution_part{"p99", &distribution::p99, 99},
    distribution_part{"p99.9", &distribution::p99_9, 99.9},
    distribution_part{"max", &distribution::max, 100},
};

constexpr std::array groups{
    latency_group{"ttft_ms", "time to first token", "first token", &summary::ttft_ms,
                  &time_block::ttft},
    latency_group{"itl_ms", "time between tokens", "between tokens", &summary::itl_ms,
                  &time_block::itl},
    latency_group{"tpot_ms", "time per output token", "per token", &summary::tpot_ms,
                  &time_block::tpot},
    latency_group{"e2e_ms", "whole latency", "whole", &summary::e2e_ms, &time_block::e2e},
    latency_group{"send_lateness_ms", "send lateness", "send lateness", &summary::send_lateness_ms,
                  nullptr},
};

constexpr std::array rates{
    figure{"output_tokens_per_s", "", nullptr, nullptr, &summary::output_tokens_per_s},
    figure{"requests_per_s", "", nullptr, nullptr, &summary::requests_per_s},
    figure{"goodput_requests_per_s", "", nullptr, nullptr, &summary::goodput_requests_per_s},
};

constexpr auto make_figures() {
  std::array<figure, rates.size() + groups.size() * parts.size()> all{};
  size_t i = 0;
  for (auto& x : rates)
    all[i++] = x;
  for (auto& g : groups)
    for (auto& p : parts)
      all[i++] = figure{g.name, p.name, g.figures, p.value, nullptr, p.percentile};
  return all;
}

constexpr auto all_figures = make_figures();

} // namespace

std::string figure::name() const {
  std::string s{group};
  if (!member.empty())
    s.append(1, '.').append(member);
  return s;
}

std::span<const figure> figures() {
  return all_figures;
}

std::span<const latency_group> latency_groups() {
  return groups;
}

std::span<const distribution_part> distribution_parts() {
  return parts;
}

histogram whole(const timeline& t, sparse_histogram time_block::*sketch) {
  histogram sum;
  for (auto& b : t.blocks)
    (b.*sketch).add_to(sum);
  return sum;
}

} // namespace troupe::load_test::report

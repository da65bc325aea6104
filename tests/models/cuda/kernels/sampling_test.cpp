#include "troupe/models/cuda/kernels/sampling.hpp"

#include <algorithm>
#include <numeric>

#include "support.hpp"
#include "troupe/models/sampling/philox.hpp"

namespace troupe::test {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct row_case {
  slot_sampling p = {};
  std::vector<int32_t> history = {}; ///< For penalties.
  uint32_t prompt = 0;
  draw_request request = {};
  uint32_t position = 0; ///< Of the drawn token.
};

/// Scores of a row as the host's sampler has them.
std::vector<double> reference_scores(const std::vector<double>& logits, const row_case& c) {
  auto scores = logits;
  if (c.p.counts_row != UINT32_MAX)
    for (size_t token = 0; token < scores.size(); ++token) {
      uint32_t in_prompt = 0, in_output = 0;
      for (size_t i = 0; i < c.history.size(); ++i)
        if (c.history[i] == static_cast<int32_t>(token))
          ++(i < c.prompt ? in_prompt : in_output);
      if (in_prompt + in_output == 0)
        continue;
      auto penalize = [&](float by) {
        scores[token] = scores[token] < 0 ? scores[token] * static_cast<double>(by)
                                          : scores[token] / static_cast<double>(by);
      };
      if (in_prompt > 0)
        penalize(c.p.prompt_penalty);
      penalize(c.p.repetition_penalty);
      if (in_output > 0)
        scores[token] -= static_cast<double>(c.p.frequency_penalty) * in_output +
                         static_cast<double>(c.p.presence_penalty);
    }
  if (c.position < c.p.eos_from)
    for (uint32_t e = 0; e < c.p.eos_count; ++e)
      scores[static_cast<size_t>(c.p.eos[e])] = -static_cast<double>(infinity);
  if (c.p.sample != 0)
    for (auto& x : scores)
      x /= static_cast<double>(c.p.temperature);
  return scores;
}

/// Probabilities after top_k, top_p and min_p, zero for what is removed.
std::vector<double> reference_distribution(const std::vector<double>& scores,
                                           const slot_sampling& p) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
  });
  const double highest = scores[order.back()];
  std::vector<double> weight(scores.size());
  for (size_t i = 0; i < scores.size(); ++i)
    weight[i] = std::exp(scores[i] - highest);
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < scores.size()) {
    const double bound = scores[order[order.size() - static_cast<size_t>(p.top_k)]];
    for (size_t i = 0; i < scores.size(); ++i)
      if (scores[i] < bound)
        weight[i] = 0;
  }
  if (p.top_p_cut > 0) {
    const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
    double sum = 0;
    for (const auto i : order) {
      sum += weight[i];
      if (sum / total > static_cast<double>(p.top_p_cut))
        break;
      if (i != order.back())
        weight[i] = 0;
    }
  }
  for (auto& w : weight)
    if (w < static_cast<double>(p.min_p))
      w = 0;
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  for (auto& w : weight)
    w /= total;
  return weight;
}

double log_softmax(const std::vector<double>& logits, size_t token) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double x : logits)
    sum += std::exp(x - highest);
  return logits[token] - highest - std::log(sum);
}

/// One launch over some rows of logits.
struct sampling_fixture {
  sampling_fixture(const std::vector<std::vector<double>>& rows, std::vector<row_case> cases_)
      : cases(std::move(cases_)), vocabulary(static_cast<uint32_t>(rows[0].size())),
        count(static_cast<uint32_t>(rows.size())), logits(element::fp32, count, vocabulary, 4),
        counts(size_t{count} * vocabulary * sizeof(uint32_t)),
        workspace(sample_workspace_bytes(count, vocabulary), 0) {
    for (uint32_t i = 0; i < count; ++i)
      std::copy(rows[i].begin(), rows[i].end(), logits.values.begin() + size_t{i} * vocabulary);
    logits.upload();
  }

  void run(report& r, const bench_place& p, bool plain, bool from_step) {
    std::vector<uint32_t> slots(count), firsts(count), ones(count, 1), positions(count);
    std::vector<draw_request> requests;
    std::vector<slot_sampling> parameters(count);
    for (uint32_t i = 0; i < count; ++i) {
      slots[i] = count - 1 - i;
      firsts[i] = i;
      positions[i] = cases[i].position - 1;
      auto request = cases[i].request;
      request.position = from_step ? 12345 : cases[i].position;
      requests.push_back(request);
      parameters[slots[i]] = cases[i].p;
      if (cases[i].p.counts_row != UINT32_MAX) {
        const device_vector<int32_t> history(cases[i].history);
        TROUPE_MUST(count_history(
            p.on, history.data(), static_cast<uint32_t>(cases[i].history.size()), cases[i].prompt,
            static_cast<uint32_t*>(counts.data()) + size_t{cases[i].p.counts_row} * vocabulary,
            vocabulary));
        p.wait();
      }
    }
    const device_vector<uint32_t> slots_data(slots), firsts_data(firsts), ones_data(ones),
        positions_data(positions);
    const device_vector<draw_request> requests_data(requests);
    const device_vector<slot_sampling> parameters_data(parameters);
    const device_vector<int32_t> latest_data(std::vector<int32_t>(count, -7));
    const device_vector<draw_result> results_data{std::vector<draw_result>(count)};
    const device_vector<top_entry> top_data{std::vector<top_entry>(size_t{count} * max_top)};
    step_arrays step;
    step.slots = slots_data.data();
    step.first_tokens = firsts_data.data();
    step.token_counts = ones_data.data();
    step.positions = positions_data.data();
    step.count = step.rows = count;
    TROUPE_MUST(sample(p.on, step,
                       {.logits = logits.view(),
                        .requests = requests_data.data(),
                        .positions_from_step = from_step,
                        .slots = parameters_data.data(),
                        .counts = static_cast<uint32_t*>(counts.data()),
                        .latest = latest_data.data(),
                        .results = results_data.data(),
                        .top = top_data.data(),
                        .plain_greedy = plain,
                        .workspace = workspace.data()}));
    p.wait();
    results = results_data.read();
    top = top_data.read();
    const auto latest = latest_data.read();
    for (uint32_t i = 0; i < count; ++i) {
      const bool drawn = cases[i].request.row != no_row && cases[i].request.target < 0 &&
                         results[i].fault == draw_fault::none;
      r.expect(latest[slots[i]] == (drawn ? results[i].token : -7), "latest token");
    }
  }

  std::vector<double> row(uint32_t i) const {
    return {logits.values.begin() + size_t{i} * vocabulary,
            logits.values.begin() + size_t{i + 1} * vocabulary};
  }

  std::vector<row_case> cases;
  uint32_t vocabulary, count;
  tensor logits;
  device_memory counts, workspace;
  std::vector<draw_result> results;
  std::vector<top_entry> top;
};

std::vector<double> random_row(std::mt19937& random, size_t count, double spread) {
  std::normal_distribution<float> draw(0, static_cast<float>(spread));
  std::vector<double> row(count);
  for (auto& x : row)
    x = static_cast<double>(draw(random));
  return row;
}

void check_logprob(report& r, const sampling_fixture& f, uint32_t i, const std::string& what) {
  const auto& result = f.results[i];
  const double want = log_softmax(f.row(i), static_cast<size_t>(result.token));
  r.expect(std::fabs(static_cast<double>(result.logprob) - want) <= 2e-5 * (1 + std::fabs(want)),
           what + ": log-probability " + std::to_string(result.logprob) + ", wanted " +
               std::to_string(want));
}

void greedy(report& r, const bench_place& p, std::mt19937& random, uint32_t vocabulary) {
  std::vector<std::vector<double>> rows;
  std::vector<row_case> cases;
  for (uint32_t i = 0; i < 6; ++i) {
    rows.push_back(random_row(random, vocabulary, 4));
    cases.push_back({.request = {.row = i}, .position = 5});
  }
  rows[1][vocabulary - 1] = rows[1][vocabulary / 2] = 100; // The lowest id among equals.
  rows[2][vocabulary / 3] = std::nan("");
  rows[3][0] = static_cast<double>(infinity);
  std::fill(rows[4].begin(), rows[4].end(), -static_cast<double>(infinity));
  cases[5].request.row = no_row;
  sampling_fixture f(rows, cases);
  for (const bool plain : {true, false}) {
    f.run(r, p, plain, true);
    const auto name = "greedy over " + std::to_string(vocabulary);
    for (const uint32_t i : {0u, 1u}) {
      const auto row = f.row(i);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      r.expect(f.results[i].token == best && f.results[i].fault == draw_fault::none, name);
      check_logprob(r, f, i, name);
    }
    r.expect(f.results[2].fault == draw_fault::nan && f.results[2].token == -1, name + " with NaN");
    r.expect(f.results[3].fault == draw_fault::infinite, name + " with +Inf");
    r.expect(f.results[4].fault == draw_fault::no_finite, name + " with -Inf only");
  }
}

/// Draws must lie where the reference's distribution puts them, up to rounding.
void draws(report& r, const bench_place& p, std::mt19937& random, uint32_t vocabulary) {
  std::vector<std::vector<double>> rows;
  std::vector<row_case> cases;
  const uint32_t count = r.small() ? 12 : 48;
  for (uint32_t i = 0; i < count; ++i) {
    rows.push_back(random_row(random, vocabulary, i % 3 == 0 ? 0.3 : 3));
    if (i % 6 == 5) // Many equals.
      for (auto& x : rows.back())
        x = std::round(x);
    row_case c{.request = {.row = i}, .position = 100 + i};
    c.p.sample = i % 8 != 7;
    c.p.seed = 0x123456789abcull + i;
    c.p.sequence_index = i % 3;
    c.p.temperature = i % 2 == 0 ? 0.7f : 1.0f;
    c.p.top_k = i % 4 == 1 ? 20 : 0;
    c.p.top_p_cut = i % 4 >= 2 ? 0.1f : 0;
    c.p.min_p = i % 5 == 3 ? 0.05f : 0;
    if (i % 3 == 1) {
      c.p.counts_row = i;
      c.p.repetition_penalty = 1.3f;
      c.p.prompt_penalty = 0.8f;
      c.p.frequency_penalty = 0.5f;
      c.p.presence_penalty = 0.25f;
      for (uint32_t n = 0; n < 40; ++n)
        c.history.push_back(static_cast<int32_t>(random() % std::min(vocabulary, 60u)));
      c.prompt = 15;
    }
    if (i % 7 == 2) {
      const auto best = std::max_element(rows[i].begin(), rows[i].end()) - rows[i].begin();
      c.p.eos_count = 2;
      c.p.eos[0] = static_cast<int32_t>(best);
      c.p.eos[1] = 0;
      c.p.eos_from = i % 2 == 0 ? 1000 : 3;
    }
    cases.push_back(c);
  }
  sampling_fixture f(rows, cases);
  f.run(r, p, false, true);
  for (uint32_t i = 0; i < count; ++i) {
    const auto& c = f.cases[i];
    const auto name = "draw " + std::to_string(i) + " over " + std::to_string(vocabulary);
    const auto token = f.results[i].token;
    r.expect(f.results[i].fault == draw_fault::none && token >= 0, name + " failed");
    if (token < 0)
      continue;
    check_logprob(r, f, i, name);
    const auto scores = reference_scores(f.row(i), c);
    if (c.p.sample == 0) {
      r.expect(scores[static_cast<size_t>(token)] >=
                   *std::max_element(scores.begin(), scores.end()) - 1e-5,
               name + ": not the best");
      continue;
    }
    const auto shares = reference_distribution(scores, c.p);
    const double u = models::philox_uniform(c.p.seed, c.p.sequence_index, c.position);
    double before = 0;
    for (int32_t n = 0; n < token; ++n)
      before += shares[static_cast<size_t>(n)];
    const double after = before + shares[static_cast<size_t>(token)];
    r.expect(shares[static_cast<size_t>(token)] > 0, name + ": a token that was removed");
    r.expect(before - 1e-4 <= u && u <= after + 1e-4,
             name + ": u is " + std::to_string(u) + ", the token has [" + std::to_string(before) +
                 ", " + std::to_string(after) + ")");
  }
  // What was drawn is counted: twice the same launch would punish it.
  std::vector<uint32_t> counted(size_t{count} * vocabulary);
  TROUPE_MUST(cudaMemcpy(counted.data(), f.counts.data(), counted.size() * sizeof(uint32_t),
                         cudaMemcpyDeviceToHost));
  for (uint32_t i = 0; i < count; ++i) {
    const auto& c = f.cases[i];
    if (c.p.counts_row == UINT32_MAX)
      continue;
    const auto token = f.results[i].token;
    const auto times = std::count(c.history.begin() + c.prompt, c.history.end(), token) + 1;
    r.expect((counted[size_t{c.p.counts_row} * vocabulary + static_cast<size_t>(token)] &
              ~in_prompt_bit) == static_cast<uint32_t>(times),
             "the drawn token is counted");
  }
}

void tops(report& r, const bench_place& p, std::mt19937& random, uint32_t vocabulary) {
  std::vector<std::vector<double>> rows;
  std::vector<row_case> cases;
  const uint32_t wanted[] = {1, 5, 20, 64, 7};
  for (uint32_t i = 0; i < 5; ++i) {
    rows.push_back(random_row(random, vocabulary, 2));
    if (i == 2)
      for (auto& x : rows.back())
        x = std::round(x);
    cases.push_back({.request = {.row = i, .top_n = wanted[i]}, .position = 9});
  }
  cases[4].request.target = static_cast<int32_t>(vocabulary / 2);
  sampling_fixture f(rows, cases);
  f.run(r, p, false, false);
  for (uint32_t i = 0; i < 5; ++i) {
    const auto row = f.row(i);
    const auto n = std::min<size_t>(wanted[i], vocabulary);
    std::vector<int32_t> order(vocabulary);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      const double x = row[static_cast<size_t>(a)], y = row[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    bool same = f.results[i].top_count == n;
    for (size_t k = 0; same && k < n; ++k) {
      const auto& e = f.top[size_t{i} * max_top + k];
      same =
          e.token == order[k] && std::fabs(static_cast<double>(e.logprob) -
                                           log_softmax(row, static_cast<size_t>(order[k]))) < 1e-4;
    }
    r.expect(same, "the " + std::to_string(n) + " most likely of " + std::to_string(vocabulary));
    r.expect(f.results[i].token == (i == 4 ? static_cast<int32_t>(vocabulary / 2) : order[0]),
             "the token beside the most likely");
    check_logprob(r, f, i, "beside the most likely");
  }
}

} // namespace

void test_sampling(report& r, const bench_place& p) {
  std::mt19937 random(9);
  for (const uint32_t vocabulary : {100u, 1000u, 32000u, 128256u}) {
    if (r.small() && vocabulary > 5000)
      continue;
    greedy(r, p, random, vocabulary);
    draws(r, p, random, vocabulary);
    tops(r, p, random, vocabulary);
  }
  // Everything masked.
  row_case c{.request = {.row = 0}, .position = 4};
  c.p.eos_count = 3;
  c.p.eos_from = 10;
  for (int32_t e = 0; e < 3; ++e)
    c.p.eos[e] = e;
  sampling_fixture f({{1, 2, 3}}, {c});
  f.run(r, p, false, true);
  r.expect(f.results[0].fault == draw_fault::all_masked, "everything masked");
}

} // namespace troupe::test

#include "troupe/models/cuda/kernels/small_batch.hpp"

#include <cmath>

#include "bench.hpp"

namespace troupe::bench {

namespace {

void line(const std::string& what, double seconds, double bytes, const place& p,
          double operations = 0) {
  std::printf("%-44s %9.2f us %10.2f MB %7.1f %% of the copy rate", what.c_str(), seconds * 1e6,
              bytes * 1e-6, 100 * bytes / p.bandwidth / seconds);
  if (operations > 0)
    std::printf(" %6.0f TFLOP/s", operations / seconds * 1e-12);
  std::printf("\n");
}

struct product {
  const char* name;
  uint32_t n, k;
  bool gated, accumulate, normed, wide_out;
};

void bench_product(const place& p, const model& m, const product& s) {
  const size_t weight_bytes = size_t{s.n} * s.k * 2;
  const int sets = sets_for(p, weight_bytes);
  constexpr uint32_t most = 128;
  device_memory w(weight_bytes * sets), x(size_t{most} * s.k * 4), y(size_t{most} * s.n * 4, true),
      scratch(size_t{most} * (s.n + s.k) * 4 + 1024), scale(size_t{s.k} * 4);
  TROUPE_MUST(fill_random(p.on, 3, 0.02f, w.data(), element::bf16, weight_bytes / 2 * sets));
  TROUPE_MUST(fill_random(p.on, 4, 1, scale.data(), element::fp32, s.k));
  const norm before{norm_function::rms, scale.as<float>(), nullptr, 1e-5f};
  for (const uint32_t tokens : {1u, 8u, 16u, 32u, 64u, 128u}) {
    auto call_of = [&](int set, bool normed) {
      const uint32_t out = s.gated ? s.n / 2 : s.n;
      const element in_type = normed ? element::fp32 : element::bf16;
      return linear_call{
          .x = {x.data(), in_type, tokens, s.k, s.k},
          .before = normed ? &before : nullptr,
          .by = {w.at(weight_bytes * static_cast<size_t>(set)), element::bf16, s.n, s.k, nullptr},
          .function = s.gated ? activation::silu : activation::none,
          .gated = s.gated,
          .accumulate = s.accumulate,
          .y = {y.data(), s.wide_out ? element::fp32 : element::bf16, tokens, out, out},
          .scratch = scratch.data()};
    };
    TROUPE_MUST(fill_random(p.on, 5, 1, x.data(), element::bf16, size_t{most} * s.k));
    const auto name = std::string{m.name} + " " + s.name + " T=" + std::to_string(tokens);
    const double bytes = static_cast<double>(weight_bytes);
    if (tokens <= small_batch_tokens) {
      const auto seconds = each_seconds(
          p, sets, [&](int set) { TROUPE_MUST(multiply_small(p.on, call_of(set, false))); });
      line(name + " ours", seconds, bytes, p);
    }
    if (p.library && (tokens == 1 || tokens >= 8)) {
      const auto c = call_of(0, false);
      const matrix out{y.data(), s.wide_out ? element::fp32 : element::bf16, tokens, s.n, s.n};
      if (p.library->prepare(p.on, c.x, c.by, s.accumulate, out) != cudaSuccess)
        continue;
      const auto seconds = each_seconds(p, sets, [&](int set) {
        const auto again = call_of(set, false);
        TROUPE_MUST(p.library->multiply(p.on, again.x, again.by, s.accumulate, out));
      });
      line(name + " cuBLASLt", seconds, bytes, p);
    }
  }
}

} // namespace

void bench_products(const place& p) {
  for (const auto& m : models) {
    const product products[] = {{"qkv", m.qkv(), m.hidden, false, false, true, false},
                                {"out", m.hidden, m.heads * m.head_size, false, true, false, true},
                                {"gate_up", 2 * m.intermediate, m.hidden, true, false, true, false},
                                {"down", m.hidden, m.intermediate, false, true, false, true},
                                {"head", m.vocabulary, m.hidden, false, false, false, true}};
    for (const auto& s : products)
      bench_product(p, m, s);
  }
}

void bench_attention(const place& p) {
  for (const auto& m : models)
    for (const uint32_t context : {256u, 1024u})
      for (const uint32_t rows : {1u, 8u, 16u, 64u, 128u}) {
        const paged_rows r(m, rows, context);
        const size_t bytes = r.page_bytes(m, 1);
        const int sets = sets_for(p, bytes);
        device_memory pages(bytes * sets), qkv(size_t{rows} * m.qkv() * 2),
            out(size_t{rows} * m.heads * m.head_size * 2), frequencies(m.head_size * 2);
        TROUPE_MUST(fill_random(p.on, 1, 1, pages.data(), element::bf16, bytes * sets / 2));
        TROUPE_MUST(fill_random(p.on, 2, 1, qkv.data(), element::bf16, qkv.size() / 2));
        TROUPE_MUST(fill_random(p.on, 2, 1, frequencies.data(), element::fp32, m.head_size / 2));
        const auto split = choose_decode_split(p.on.device, rows, m.kv_heads, 8192, false);
        device_memory workspace(
            decode_workspace_bytes(rows, m.heads, m.kv_heads, m.head_size, split), true);
        const matrix qkv_view{qkv.data(), element::bf16, rows, m.qkv(), m.qkv()};
        const matrix out_view{out.data(), element::bf16, rows, m.heads * m.head_size,
                              m.heads * m.head_size};
        const rotation by{frequencies.as<float>(), nullptr, 1};
        const attention how{m.heads, 0.1f, 0};
        auto at = [&](int set) {
          return r.pages(m, pages.at(bytes * static_cast<size_t>(set)), 1, 0);
        };
        const auto name = std::string{m.name} + " batch " + std::to_string(rows) + " context " +
                          std::to_string(context) + " parts " + std::to_string(split.parts);
        const double moved = static_cast<double>(bytes);
        line(name + " rotate",
             each_seconds(p, sets,
                          [&](int set) {
                            TROUPE_MUST(rotate_and_store(p.on, r.step, qkv_view, m.heads, nullptr,
                                                         nullptr, by, at(set)));
                          }),
             2.0 * static_cast<double>(qkv.size()), p);
        line(name + " attend",
             each_seconds(p, sets,
                          [&](int set) {
                            TROUPE_MUST(attend_decode(p.on, r.step, qkv_view, how, at(set), split,
                                                      workspace.data(), out_view));
                          }),
             moved, p);
        line(name + " fused",
             each_seconds(p, sets,
                          [&](int set) {
                            TROUPE_MUST(rotate_and_attend(p.on, r.step, qkv_view, nullptr, nullptr,
                                                          by, how, at(set), split, workspace.data(),
                                                          out_view));
                          }),
             moved, p);
      }
}

void bench_rows(const place& p) {
  for (const auto& m : models)
    for (const uint32_t rows : {1u, 16u, 128u, 8192u}) {
      const auto name = std::string{m.name} + " T=" + std::to_string(rows);
      const size_t hidden_bytes = size_t{rows} * m.hidden * 4;
      const size_t wide_bytes = size_t{rows} * m.intermediate * 2 * 2;
      const int sets = std::min(8, sets_for(p, wide_bytes));
      device_memory hidden(hidden_bytes * sets), normed(hidden_bytes), wide(wide_bytes * sets),
          gated(wide_bytes), scale(size_t{m.hidden} * 4);
      TROUPE_MUST(fill_random(p.on, 1, 1, hidden.data(), element::fp32, hidden_bytes / 4 * sets));
      TROUPE_MUST(fill_random(p.on, 1, 1, wide.data(), element::bf16, wide_bytes / 2 * sets));
      TROUPE_MUST(fill_random(p.on, 1, 1, scale.data(), element::fp32, m.hidden));
      const norm by{norm_function::rms, scale.as<float>(), nullptr, 1e-5f};
      line(name + " rms norm",
           each_seconds(p, sets,
                        [&](int s) {
                          TROUPE_MUST(
                              normalize(p.on, by,
                                        {hidden.at(hidden_bytes * static_cast<size_t>(s)),
                                         element::fp32, rows, m.hidden, m.hidden},
                                        nullptr, nullptr,
                                        {normed.data(), element::bf16, rows, m.hidden, m.hidden}));
                        }),
           1.5 * static_cast<double>(hidden_bytes), p);
      line(name + " silu x up",
           each_seconds(p, sets,
                        [&](int s) {
                          TROUPE_MUST(activate(
                              p.on, activation::silu,
                              {wide.at(wide_bytes * static_cast<size_t>(s)), element::bf16, rows,
                               2 * m.intermediate, size_t{2} * m.intermediate},
                              nullptr,
                              {gated.data(), element::bf16, rows, m.intermediate, m.intermediate}));
                        }),
           1.5 * static_cast<double>(wide_bytes), p);
    }
  const auto& m = models[0];
  for (const uint32_t rows : {1u, 16u, 128u}) {
    const paged_rows r(m, rows, 64);
    const size_t bytes = size_t{rows} * m.vocabulary * 4;
    const int sets = sets_for(p, bytes);
    device_memory logits(bytes * sets), workspace(sample_workspace_bytes(rows, m.vocabulary), true),
        results(rows * sizeof(draw_result)), top(size_t{rows} * max_top * sizeof(top_entry)),
        latest(rows * 4);
    // Probabilities fall with the rank as words do; which token has which rank is random.
    std::vector<float> row(m.vocabulary);
    for (uint32_t i = 0; i < m.vocabulary; ++i)
      row[(uint64_t{i} * 77977 + 13) % m.vocabulary] =
          -1.1f * std::log(1.0f + static_cast<float>(i));
    for (size_t at = 0; at < logits.size(); at += row.size() * 4)
      TROUPE_MUST(cudaMemcpy(logits.at(at), row.data(), row.size() * 4, cudaMemcpyHostToDevice));
    std::vector<draw_request> requests(rows);
    for (uint32_t i = 0; i < rows; ++i)
      requests[i].row = i;
    const auto requests_data = uploaded(requests);
    auto run = [&](const char* what, const slot_sampling& how, bool plain) {
      const auto slots = uploaded(std::vector<slot_sampling>(rows, how));
      line(std::string{"sampling "} + what + " rows " + std::to_string(rows),
           each_seconds(p, sets,
                        [&](int s) {
                          TROUPE_MUST(
                              sample(p.on, r.step,
                                     {.logits = {logits.at(bytes * static_cast<size_t>(s)),
                                                 element::fp32, rows, m.vocabulary, m.vocabulary},
                                      .requests = requests_data->as<draw_request>(),
                                      .positions_from_step = true,
                                      .slots = slots->as<slot_sampling>(),
                                      .counts = nullptr,
                                      .latest = latest.as<int32_t>(),
                                      .results = results.as<draw_result>(),
                                      .top = top.as<top_entry>(),
                                      .plain_greedy = plain,
                                      .workspace = workspace.data()}));
                        }),
           static_cast<double>(bytes), p);
    };
    slot_sampling how;
    run("greedy", how, true);
    how.sample = 1;
    how.temperature = 0.8f;
    run("temperature", how, false);
    how.top_p_cut = 0.05f;
    run("top_p", how, false);
    how.top_k = 50;
    run("top_k and top_p", how, false);
  }
}

} // namespace troupe::bench

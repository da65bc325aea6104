#include <cstring>

#include "bench.hpp"

namespace troupe::bench {

namespace {

/// A whole model with random weights, and one step of it.
class step_runner {
public:
  step_runner(const place& p, const model& m, uint32_t layers, uint32_t most_tokens)
      : p_(p), m_(m), layers_(layers),
        weights_((m.layer_weights() * layers + size_t{m.hidden} * m.vocabulary) * 2),
        scale_(size_t{m.hidden} * 4), frequencies_(m.head_size * 2),
        hidden_(size_t{most_tokens} * m.hidden * 4), normed_(size_t{most_tokens} * m.hidden * 2),
        qkv_(size_t{most_tokens} * m.qkv() * 2),
        attended_(size_t{most_tokens} * m.heads * m.head_size * 2),
        mlp_(size_t{most_tokens} * m.intermediate * 2),
        scratch_(size_t{most_tokens} * (m.hidden + 2 * m.intermediate) * 2 + 4096),
        logits_(size_t{std::min(most_tokens, 128u)} * m.vocabulary * 4), results_(128 * 64),
        latest_(128 * 4), sampling_(sample_workspace_bytes(128, m.vocabulary), true) {
    TROUPE_MUST(fill_random(p.on, 1, 0.02f, weights_.data(), element::bf16, weights_.size() / 2));
    TROUPE_MUST(fill_random(p.on, 2, 1, scale_.data(), element::fp32, m.hidden));
    TROUPE_MUST(fill_random(p.on, 3, 1, frequencies_.data(), element::fp32, m.head_size / 2));
    std::vector<draw_request> requests(128);
    for (uint32_t i = 0; i < 128; ++i)
      requests[i].row = i;
    requests_ = uploaded(requests);
  }

  struct mode {
    bool fused_attention = true;
    bool overlap = true;
  };

  /// Enqueues a decode step, or, with tiles, a prefill step without the head.
  void enqueue(const paged_rows& r, void* pages, decode_split split, void* workspace, mode how,
               const query_tile* tiles = nullptr, uint32_t tile_count = 0) {
    auto on = p_.on;
    on.overlap = how.overlap;
    const uint32_t t = r.step.count;
    const matrix hidden{hidden_.data(), element::fp32, t, m_.hidden, m_.hidden};
    const matrix qkv{qkv_.data(), element::bf16, t, m_.qkv(), m_.qkv()};
    const uint32_t q_width = m_.heads * m_.head_size;
    const matrix attended{attended_.data(), element::bf16, t, q_width, q_width};
    const matrix mlp{mlp_.data(), element::bf16, t, m_.intermediate, m_.intermediate};
    const norm by{norm_function::rms, scale_.as<float>(), nullptr, 1e-5f};
    const rotation rotate{frequencies_.as<float>(), nullptr, 1};
    const attention attend{m_.heads, 0.1f, 0};
    size_t used = 0;
    auto next = [&](uint32_t n, uint32_t k) {
      const weight w{weights_.at(used), element::bf16, n, k, nullptr};
      used += size_t{n} * k * 2;
      return w;
    };
    const weight head = next(m_.vocabulary, m_.hidden);
    const matrix table{weights_.data(), element::bf16, head.n, head.k, head.k};
    auto product = [&](const linear_call& call) { TROUPE_MUST(linear(on, call, library())); };
    TROUPE_MUST(embed(on, r.step, table, nullptr, hidden));
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      const auto kv = r.pages(m_, pages, layers_, layer);
      product({.x = hidden,
               .before = &by,
               .by = next(m_.qkv(), m_.hidden),
               .y = qkv,
               .scratch = scratch_.data()});
      if (tiles != nullptr) {
        TROUPE_MUST(rotate_and_store(on, r.step, qkv, m_.heads, nullptr, nullptr, rotate, kv));
        TROUPE_MUST(attend_prefill(on, r.step, qkv, attend, kv, tiles, tile_count, attended));
      } else if (how.fused_attention) {
        TROUPE_MUST(rotate_and_attend(on, r.step, qkv, nullptr, nullptr, rotate, attend, kv, split,
                                      workspace, attended));
      } else {
        TROUPE_MUST(rotate_and_store(on, r.step, qkv, m_.heads, nullptr, nullptr, rotate, kv));
        TROUPE_MUST(attend_decode(on, r.step, qkv, attend, kv, split, workspace, attended));
      }
      product({.x = attended,
               .before = nullptr,
               .by = next(m_.hidden, q_width),
               .accumulate = true,
               .y = hidden,
               .scratch = scratch_.data()});
      product({.x = hidden,
               .before = &by,
               .by = next(2 * m_.intermediate, m_.hidden),
               .function = activation::silu,
               .gated = true,
               .y = mlp,
               .scratch = scratch_.data()});
      product({.x = mlp,
               .before = nullptr,
               .by = next(m_.hidden, m_.intermediate),
               .accumulate = true,
               .y = hidden,
               .scratch = scratch_.data()});
    }
    if (tiles != nullptr)
      return;
    const matrix logits{logits_.data(), element::fp32, t, m_.vocabulary, m_.vocabulary};
    product({.x = hidden, .before = &by, .by = head, .y = logits, .scratch = scratch_.data()});
    TROUPE_MUST(sample(on, r.step,
                       {.logits = logits,
                        .requests = requests_->as<draw_request>(),
                        .latest = latest_.as<int32_t>(),
                        .results = results_.as<draw_result>(),
                        .plain_greedy = true,
                        .workspace = sampling_.data()}));
  }

  gemm_library* library() const { return use_library ? p_.library.get() : nullptr; }
  bool use_library = true;

  /// Chooses cuBLASLt's algorithms for a number of tokens.
  void prepare(uint32_t t) {
    if (!p_.library)
      return;
    const uint32_t q_width = m_.heads * m_.head_size;
    const struct {
      uint32_t n, k;
      bool accumulate, wide;
    } products[] = {{m_.qkv(), m_.hidden, false, false},
                    {m_.hidden, q_width, true, true},
                    {2 * m_.intermediate, m_.hidden, false, false},
                    {m_.hidden, m_.intermediate, true, true},
                    {m_.vocabulary, m_.hidden, false, true}};
    for (const auto& s : products) {
      if (t <= small_batch_limit(p_.on.device, element::bf16, s.n, s.k))
        continue;
      if (s.n == m_.vocabulary && t > 128)
        continue;
      void* out = s.n == m_.vocabulary ? logits_.data()
                  : s.wide             ? hidden_.data()
                  : s.n == m_.qkv()    ? qkv_.data()
                                       : scratch_.data();
      static_cast<void>(
          p_.library->prepare(p_.on, {mlp_.data(), element::bf16, t, s.k, s.k},
                              {weights_.data(), element::bf16, s.n, s.k, nullptr}, s.accumulate,
                              {out, s.wide ? element::fp32 : element::bf16, t, s.n, s.n}));
    }
    TROUPE_MUST(fill_random(p_.on, 4, 1, hidden_.data(), element::fp32, hidden_.size() / 4));
    TROUPE_MUST(fill_random(p_.on, 4, 1, mlp_.data(), element::bf16, mlp_.size() / 2));
  }

private:
  const place& p_;
  const model& m_;
  uint32_t layers_;
  device_memory weights_, scale_, frequencies_, hidden_, normed_, qkv_, attended_, mlp_, scratch_,
      logits_, results_, latest_, sampling_;
  std::unique_ptr<device_memory> requests_;
};

} // namespace

void bench_decode_steps(const place& p) {
  std::printf("%-30s %10s %10s %10s %10s %10s %9s\n", "whole step, ms", "floor", "as is",
              "no overlap", "unfused", "both off", "% floor");
  for (const auto& m : models) {
    step_runner runner(p, m, m.layers, 128);
    for (const uint32_t rows : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u}) {
      runner.prepare(rows);
      for (const uint32_t context : {256u, 1024u}) {
        if (context == 1024 && rows != 1 && rows != 16 && rows != 64)
          continue;
        const paged_rows r(m, rows, context);
        const size_t page_bytes = r.page_bytes(m, m.layers);
        device_memory pages(page_bytes);
        TROUPE_MUST(fill_random(p.on, 9, 1, pages.data(), element::bf16, page_bytes / 2));
        const auto split = choose_decode_split(p.on.device, rows, m.kv_heads, 8192, false);
        device_memory workspace(
            decode_workspace_bytes(rows, m.heads, m.kv_heads, m.head_size, split), true);
        auto time = [&](step_runner::mode how) {
          return replay_seconds(
              p, [&] { runner.enqueue(r, pages.data(), split, workspace.data(), how); }, 9);
        };
        const double floor =
            (static_cast<double>(m.weights()) * 2 + static_cast<double>(page_bytes)) / p.bandwidth;
        const double best = time({true, true});
        const double plain = time({true, false}), apart = time({false, true}),
                     neither = time({false, false});
        std::printf("%-30s %10.3f %10.3f %10.3f %10.3f %10.3f %8.1f%%\n",
                    (std::string{m.name} + " batch " + std::to_string(rows) + " context " +
                     std::to_string(context))
                        .c_str(),
                    floor * 1e3, best * 1e3, plain * 1e3, apart * 1e3, neither * 1e3,
                    100 * floor / best);
        std::fflush(stdout);
      }
    }
  }
}

void bench_prefill_step(const place& p) {
  const auto& m = models[0];
  constexpr uint32_t layers = 8; // Of 32: they are alike.
  step_runner runner(p, m, layers, 8192);
  runner.prepare(8192);
  for (const auto& [rows, tokens] : {std::pair{64u, 128u}, std::pair{8u, 1024u}}) {
    const paged_rows r(m, rows, tokens, tokens);
    const size_t page_bytes = r.page_bytes(m, layers);
    device_memory pages(page_bytes);
    uint32_t count = 0;
    const auto* tiles = r.tiles(m, count);
    const double seconds = replay_seconds(
        p, [&] { runner.enqueue(r, pages.data(), {}, nullptr, {}, tiles, count); }, 5);
    const double operations = 2.0 * 8192 * static_cast<double>(m.layer_weights()) * layers;
    std::printf("8B, %u prompts of %u tokens: %.2f ms for %u layers, %.1f ms for all 32 "
                "(%.0f TFLOP/s of products)\n",
                rows, tokens, seconds * 1e3, layers, seconds * 1e3 * m.layers / layers,
                operations / seconds * 1e-12);
    device_memory q(size_t{8192} * m.qkv() * 2), out(size_t{8192} * m.heads * m.head_size * 2);
    TROUPE_MUST(fill_random(p.on, 1, 1, q.data(), element::bf16, q.size() / 2));
    const matrix q_view{q.data(), element::bf16, 8192, m.qkv(), m.qkv()};
    const matrix out_view{out.data(), element::bf16, 8192, m.heads * m.head_size,
                          m.heads * m.head_size};
    const double alone =
        replay_seconds(p,
                       [&] {
                         for (uint32_t layer = 0; layer < layers; ++layer)
                           TROUPE_MUST(attend_prefill(p.on, r.step, q_view, {m.heads, 0.1f, 0},
                                                      r.pages(m, pages.data(), layers, layer),
                                                      tiles, count, out_view));
                       }) /
        layers;
    const double flops = 4.0 * rows * tokens * (tokens + 1) / 2 * m.heads * m.head_size;
    std::printf("  attention alone %.1f us a layer, %.0f TFLOP/s of what the causal mask leaves\n",
                alone * 1e6, flops / alone * 1e-12);
  }
}

} // namespace troupe::bench

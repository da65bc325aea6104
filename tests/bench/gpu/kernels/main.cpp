#include <cstring>
#include <numeric>

#include "bench.hpp"

namespace troupe::bench {

double replay_seconds(const place& p, const std::function<void()>& enqueue, int replays) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  TROUPE_MUST(cudaStreamBeginCapture(p.on.stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  TROUPE_MUST(cudaStreamEndCapture(p.on.stream, &graph));
  TROUPE_MUST(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  TROUPE_MUST(cudaEventCreate(&begin));
  TROUPE_MUST(cudaEventCreate(&end));
  // The first replays upload the graph, and clocks rise.
  for (int i = 0; i < 5; ++i)
    TROUPE_MUST(cudaGraphLaunch(exec, p.on.stream));
  std::vector<double> times;
  for (int i = 0; i < replays; ++i) {
    float milliseconds = 0;
    TROUPE_MUST(cudaEventRecord(begin, p.on.stream));
    TROUPE_MUST(cudaGraphLaunch(exec, p.on.stream));
    TROUPE_MUST(cudaEventRecord(end, p.on.stream));
    TROUPE_MUST(cudaEventSynchronize(end));
    TROUPE_MUST(cudaEventElapsedTime(&milliseconds, begin, end));
    times.push_back(static_cast<double>(milliseconds) * 1e-3);
  }
  TROUPE_MUST(cudaEventDestroy(begin));
  TROUPE_MUST(cudaEventDestroy(end));
  TROUPE_MUST(cudaGraphExecDestroy(exec));
  TROUPE_MUST(cudaGraphDestroy(graph));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

double each_seconds(const place& p, int sets, const std::function<void(int)>& enqueue) {
  const int rounds = std::max(1, 48 / sets);
  return replay_seconds(p,
                        [&] {
                          for (int r = 0; r < rounds; ++r)
                            for (int s = 0; s < sets; ++s)
                              enqueue(s);
                        }) /
         (rounds * sets);
}

paged_rows::paged_rows(const model& m, uint32_t rows, uint32_t context, uint32_t tokens,
                       uint32_t block_tokens)
    : rows_(rows), tokens_(tokens), block_tokens_(block_tokens) {
  static_cast<void>(m);
  const uint32_t each = (context + block_tokens - 1) / block_tokens;
  blocks = rows * each;
  std::vector<uint32_t> slots(rows), firsts(rows), counts(rows, tokens), positions, token_rows;
  std::vector<uint32_t> table(size_t{rows} * each);
  std::iota(slots.begin(), slots.end(), 0u);
  // Blocks of all sequences in turn, as a server that has run for a while has them.
  for (uint32_t r = 0; r < rows; ++r)
    for (uint32_t b = 0; b < each; ++b)
      table[r * each + b] = b * rows + r;
  for (uint32_t r = 0; r < rows; ++r) {
    firsts[r] = r * tokens;
    for (uint32_t t = 0; t < tokens; ++t) {
      positions.push_back(context - tokens + t);
      token_rows.push_back(r);
    }
  }
  auto keep = [&](auto&& values) {
    arrays_.push_back(uploaded(values));
    return arrays_.back()->data();
  };
  step.tokens = static_cast<const int32_t*>(keep(std::vector<int32_t>(rows * tokens, 7)));
  step.latest = static_cast<const int32_t*>(keep(std::vector<int32_t>(rows, 7)));
  step.positions = static_cast<const uint32_t*>(keep(positions));
  step.token_rows = static_cast<const uint32_t*>(keep(token_rows));
  step.slots = static_cast<const uint32_t*>(keep(slots));
  step.first_tokens = static_cast<const uint32_t*>(keep(firsts));
  step.token_counts = static_cast<const uint32_t*>(keep(counts));
  step.block_tables = static_cast<const uint32_t*>(keep(table));
  step.table_stride = each;
  step.count = rows * tokens;
  step.rows = rows;
}

kv_pages paged_rows::pages(const model& m, void* base, uint32_t layers, uint32_t layer) const {
  kv_pages p{base, 0, element::bf16, m.kv_heads, m.head_size, block_tokens_};
  p.block_stride = layer_block_bytes(p) * layers;
  p.base = static_cast<unsigned char*>(base) + layer * layer_block_bytes(p);
  return p;
}

size_t paged_rows::page_bytes(const model& m, uint32_t layers) const {
  return blocks * pages(m, nullptr, layers, 0).block_stride;
}

const query_tile* paged_rows::tiles(const model& m, uint32_t& count) const {
  const uint32_t each = prefill_tile_tokens(
      {m.heads, 1, 0}, {nullptr, 0, element::bf16, m.kv_heads, m.head_size, 16});
  std::vector<query_tile> tiles;
  for (uint32_t r = 0; r < rows_; ++r)
    for (uint32_t first = 0; first < tokens_; first += each)
      tiles.push_back({r, first});
  count = static_cast<uint32_t>(tiles.size());
  tiles_ = uploaded(tiles);
  return tiles_->as<query_tile>();
}

namespace {

void measure_memory(place& p) {
  constexpr size_t bytes = size_t{4} << 30;
  device_memory from(bytes), to(bytes);
  TROUPE_MUST(fill_random(p.on, 1, 1, from.data(), element::bf16, bytes / 2));
  // Clocks rise only under load.
  for (int i = 0; i < 200; ++i)
    enqueue_copy(p, from.data(), bytes, to.data());
  const double engine = replay_seconds(p, [&] {
    TROUPE_MUST(
        cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, p.on.stream));
  });
  const double kernel = replay_seconds(p, [&] { enqueue_copy(p, from.data(), bytes, to.data()); });
  const double read = replay_seconds(p, [&] { enqueue_read(p, from.data(), bytes, to.data()); });
  p.bandwidth = 2.0 * bytes / std::min(engine, kernel);
  std::printf("memory: cudaMemcpy %.2f TB/s, copy kernel %.2f TB/s (read and written), read kernel "
              "%.2f TB/s\n",
              2e-12 * bytes / engine, 2e-12 * bytes / kernel, 1e-12 * bytes / read);
}

} // namespace

} // namespace troupe::bench

/// Times the CUDA kernels against the bytes that they must move.
int main(int argc, char** argv) {
  using namespace troupe::bench;
  std::string only = argc > 1 ? argv[1] : "";
  if (!only.empty() && only[0] == '-') {
    std::printf(
        "usage: %s [SECTION]\n"
        "Times each CUDA kernel in CUDA graphs, at the shapes of Llama-3.1-8B, Llama-3.2-1B "
        "and SmolLM2-135M,\nand whole decode steps. \"floor\" is the bytes that must move "
        "over the copy bandwidth measured first.\n"
        "  SECTION   products, attention, rows, decode or prefill\n",
        argv[0]);
    return only == "--help" ? 0 : 2;
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no GPU here\n");
    return 77;
  }
  place p;
  cudaDeviceProp properties{};
  TROUPE_MUST(cudaSetDevice(0));
  TROUPE_MUST(cudaGetDeviceProperties(&properties, 0));
  TROUPE_MUST(query_device(0, p.on.device));
  TROUPE_MUST(cudaStreamCreateWithFlags(&p.on.stream, cudaStreamNonBlocking));
  p.l2_bytes = static_cast<size_t>(properties.l2CacheSize);
  constexpr size_t workspace = size_t{32} << 20;
  p.library_workspace = std::make_unique<device_memory>(workspace);
  std::string problem;
  p.library = open_gemm_library(p.library_workspace->data(), workspace, problem);
  if (!p.library)
    std::printf("without cuBLASLt: %s\n", problem.c_str());
  measure_memory(p);
  std::printf("%s, %d multiprocessors, %zu MB of L2, copy %.2f TB/s (read and written)\n",
              properties.name, p.on.device.multiprocessors, p.l2_bytes >> 20, p.bandwidth * 1e-12);
  const struct {
    const char* name;
    void (*run)(const place&);
  } sections[] = {{"decode", bench_decode_steps},
                  {"products", bench_products},
                  {"attention", bench_attention},
                  {"rows", bench_rows},
                  {"prefill", bench_prefill_step}};
  for (const auto& s : sections)
    if (only.empty() || only == s.name) {
      std::printf("\n== %s ==\n", s.name);
      s.run(p);
      std::fflush(stdout);
    }
  p.library.reset();
  TROUPE_MUST(cudaStreamDestroy(p.on.stream));
  return 0;
}

#include "troupe/models/device_plan.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

#include "troupe/models/placement.hpp"

namespace troupe::models {

namespace {

/// Kernels are compiled for this compute capability and up.
constexpr uint32_t least_major = 8;
/// Tokens of a step unless an option says otherwise: enough to keep tensor cores busy, and some
/// 90 ms of an 8B model on Hopper, which running streams can wait.
constexpr uint32_t usual_step_tokens = 4096;
/// Code and constants of libraries, and recordings, which are made later.
constexpr uint64_t library_bytes = uint64_t{600} << 20;

caf::error bad_option(std::string why) {
  return caf::make_error(ec::bad_option, std::move(why));
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string gibibytes(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

/// "4", "gpu4" and "cuda:4".
std::optional<uint32_t> ordinal_in(std::string_view text) {
  for (std::string_view prefix : {"gpu", "cuda:"})
    if (text.starts_with(prefix))
      text.remove_prefix(prefix.size());
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    return {};
  return value;
}

caf::expected<device_wish> read_list(const std::string& devices) {
  device_wish wish;
  wish.required = true;
  size_t begin = 0;
  while (begin <= devices.size()) {
    const auto end = std::min(devices.find_first_of(";,", begin), devices.size());
    const auto ordinal = ordinal_in(std::string_view{devices}.substr(begin, end - begin));
    if (!ordinal)
      return bad_option("load_on_devices '" + devices +
                        "' is neither *, cpu, nor a list of GPUs such as 0;1 or gpu0;gpu1");
    wish.ordinals.push_back(*ordinal);
    begin = end + 1;
  }
  return wish;
}

uint64_t stage_weight_bytes(const decoder_model& model, const layer_range& range, dtype compute,
                            quantization quantized) {
  const auto& c = model.config;
  const uint64_t element = size_of(compute);
  const uint64_t table = uint64_t{c.vocabulary} * c.hidden * element;
  uint64_t sum = model.layer_bytes(quantized, element) * range.count();
  // Norms and biases are fp32.
  sum += uint64_t{range.count()} * (2 * c.hidden + 2 * c.head_size) * sizeof(float);
  if (c.qkv_bias)
    sum += uint64_t{range.count()} * (c.q_width() + 2 * c.kv_width()) * sizeof(float);
  if (range.ends)
    sum += table + c.hidden * sizeof(float);
  if (range.begins)
    sum += (model.embedding_parameters() - uint64_t{c.vocabulary} * c.hidden) * element +
           (range.ends && c.tied ? 0 : table);
  return sum;
}

device_stage_shape shape_of(const decoder_model& model, const load_options& options,
                            const layer_range& range, uint32_t context, uint32_t step_tokens) {
  const auto& c = model.config;
  return {.hidden = c.hidden,
          .qkv_width = c.q_width() + 2 * c.kv_width(),
          .q_width = c.q_width(),
          .intermediate = c.intermediate,
          .gated = model.recipe->gated(),
          .vocabulary = c.vocabulary,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_size = c.head_size,
          .block_tokens = options.kv_block_tokens,
          .context = context,
          .max_step_tokens = step_tokens,
          .max_sequences = options.max_sequences,
          .ends = range.ends,
          .own_frequencies = c.rope.kind == rope_kind::dynamic &&
                             model.recipe->positions == position_kind::rotary};
}

/// What may be taken: up to the share, others counted in, and never what has to stay free.
uint64_t budget_of(const device_description& device, const load_options& options) {
  const auto allowed = static_cast<uint64_t>(static_cast<double>(device.total_bytes) *
                                             options.gpu_memory_utilization);
  const auto used_by_others = device.total_bytes - device.free_bytes;
  const auto share = allowed > used_by_others ? allowed - used_by_others : 0;
  const auto reserved = std::min(device.free_bytes, options.device_reserved_bytes);
  return std::min(share, device.free_bytes - reserved);
}

/// LMI's rule: what is free must hold what the model is said to need and what has to stay free.
caf::error check_reserves(const load_options& options,
                          const std::vector<device_description>& devices) {
  for (const auto& device : devices)
    if (device.free_bytes < options.device_required_bytes + options.device_reserved_bytes)
      return caf::make_error(
          ec::out_of_memory,
          "GPU " + std::to_string(device.ordinal) + " has " + gibibytes(device.free_bytes) +
              " free, and gpu.required_memory_mb (" +
              std::to_string(options.device_required_bytes >> 20) +
              ") and gpu.reserved_memory_mb (" +
              std::to_string(options.device_reserved_bytes >> 20) +
              ") together want more: lower them (without \"gpu.\" where they are set so), unload "
              "another model, or choose another GPU with load_on_devices");
  return {};
}

uint64_t reserve_of(const device_description& device) {
  return std::min(library_bytes, device.total_bytes / 20);
}

/// What a split over some devices comes to.
struct attempt {
  device_layout layout;
  uint64_t missing = 0; ///< Bytes that the fullest device lacks for weights and one block.
  uint64_t capacity() const {
    return uint64_t{layout.blocks} * layout.parts.front().options.shape.block_tokens;
  }
};

attempt try_split(const decoder_model& model, const load_options& options, dtype compute,
                  const std::vector<device_description>& devices, uint32_t stages, uint32_t context,
                  const working_bytes_function& working_bytes) {
  const auto& c = model.config;
  attempt a;
  auto& layout = a.layout;
  layout.context = context;
  layout.step_tokens =
      options.max_step_tokens == by_device ? usual_step_tokens : options.max_step_tokens;
  const uint64_t element = size_of(compute);
  const auto ranges = split_layers(c.layers, stages, model.layer_bytes(options.quantized, element),
                                   uint64_t{c.vocabulary} * c.hidden * element);
  const uint64_t layer_block =
      uint64_t{2} * c.kv_width() * options.kv_block_tokens * size_of(compute);
  uint64_t blocks = UINT32_MAX - 1;
  for (uint32_t i = 0; i < stages; ++i) {
    device_part part{.device = devices[i % devices.size()], .range = ranges[i], .options = {}};
    part.options = {.device = part.device.ordinal,
                    .compute = compute,
                    .quantized = options.quantized,
                    .graphs = options.cuda_graphs,
                    .batch_invariant = options.batch_invariant,
                    .shape = shape_of(model, options, ranges[i], context, layout.step_tokens)};
    part.weight_bytes = stage_weight_bytes(model, ranges[i], compute, options.quantized);
    part.working_bytes = working_bytes(part.options, part.device) + reserve_of(part.device);
    const uint64_t block = layer_block * ranges[i].count();
    const auto budget = budget_of(part.device, options);
    const auto taken = part.weight_bytes + part.working_bytes;
    if (taken + block > budget)
      a.missing = std::max(a.missing, taken + block - budget);
    blocks = std::min(blocks, budget > taken ? (budget - taken) / block : 0);
    layout.parts.push_back(std::move(part));
  }
  if (options.kv_cache_bytes > 0)
    blocks = std::min(blocks, options.kv_cache_bytes / (layer_block * c.layers));
  layout.blocks = static_cast<uint32_t>(blocks);
  for (auto& part : layout.parts)
    part.kv_bytes = blocks * layer_block * part.range.count();
  return a;
}

/// "use 2 GPUs of this kind (tensor_parallel_degree=2), ...", found by trying.
std::string remedy(const decoder_model& model, const load_options& options, dtype compute,
                   const device_description& device, uint32_t context,
                   const working_bytes_function& working_bytes) {
  std::string text;
  for (uint32_t n : {2u, 4u, 8u, 16u}) {
    if (n > model.config.layers)
      break;
    if (try_split(model, options, compute, {device}, n, context, working_bytes).missing == 0) {
      text = "use " + std::to_string(n) +
             " such GPUs (option.tensor_parallel_degree=" + std::to_string(n) + "), ";
      break;
    }
  }
  if (compute == dtype::fp32)
    text += "set option.dtype to bf16, ";
  if (options.quantized == quantization::none)
    text += "set option.quantize to bitsandbytes8 or bitsandbytes4, ";
  return text + "raise option.gpu_memory_utilization, or lower option.max_rolling_batch_size or "
                "option.max_step_tokens";
}

} // namespace

caf::expected<device_wish> read_device_wish(const std::string& devices,
                                            const std::string& device_map) {
  const auto map = lower(device_map);
  const auto list = lower(devices);
  device_wish wish;
  if (map == "cpu") {
    wish.cpu = true;
    return wish;
  }
  if (map == "cuda" || map.starts_with("cuda:")) {
    wish.required = true;
    if (map == "cuda")
      return wish;
    if (const auto ordinal = ordinal_in(map)) {
      wish.ordinals = {*ordinal};
      return wish;
    }
  }
  if (!map.empty() && map != "auto" && map != "balanced" && map != "balanced_low_0" &&
      map != "sequential")
    return bad_option("option.device_map '" + device_map +
                      "' is not known: auto, balanced, balanced_low_0, sequential, cpu, cuda or "
                      "cuda:N");
  if (list == "cpu" || list == "-1") {
    wish.cpu = true;
  } else if (!list.empty() && list != "*") {
    auto read = read_list(list);
    if (!read)
      return read.error();
    wish = std::move(*read);
  }
  wish.few = map == "sequential";
  return wish;
}

caf::expected<std::vector<device_description>>
allowed_devices(const device_wish& wish, const std::vector<device_description>& there) {
  std::vector<device_description> result;
  for (auto ordinal : wish.ordinals) {
    const auto found = std::find_if(there.begin(), there.end(),
                                    [&](const auto& d) { return d.ordinal == ordinal; });
    if (found == there.end())
      return bad_option("there is no GPU " + std::to_string(ordinal) + ": this machine has " +
                        std::to_string(there.size()) + ", numbered from 0");
    result.push_back(*found);
  }
  if (wish.ordinals.empty())
    result = there;
  for (const auto& device : result) {
    if (device.major < least_major)
      return bad_option("GPU " + std::to_string(device.ordinal) + " (" + device.name +
                        ") has compute capability " + std::to_string(device.major) + "." +
                        std::to_string(device.minor) + ", and Troupe needs " +
                        std::to_string(least_major) + ".0 or newer");
    if (device.name != result.front().name)
      return bad_option("the GPUs are of different kinds (" + result.front().name + ", " +
                        device.name + "): name equal ones with load_on_devices");
  }
  return result;
}

caf::expected<dtype> device_compute_type(const std::string& wish, dtype stored) {
  const auto name = lower(wish);
  if (name.empty() || name == "auto")
    return stored;
  if (name == "bf16")
    return dtype::bf16;
  if (name == "fp16")
    return dtype::fp16;
  if (name == "fp32")
    return dtype::fp32;
  return bad_option("Invalid data type: " + wish +
                    "; on a GPU fp32, bf16, fp16 and auto are known");
}

caf::expected<device_layout> lay_out(const decoder_model& model, const load_options& options,
                                     dtype compute, const std::vector<device_description>& devices,
                                     bool few, const working_bytes_function& working_bytes) {
  const auto& c = model.config;
  const auto there = static_cast<uint32_t>(devices.size());
  const auto wished = options.shards == all_devices ? std::min(there, c.layers) : options.shards;
  if (wished != by_device && wished > there)
    return bad_option("GPU devices are not enough to run " + std::to_string(wished) +
                      " partitions: there " +
                      (there == 1 ? "is 1" : "are " + std::to_string(there)));
  if (auto err = check_reserves(options, devices))
    return err;
  const bool chosen = options.max_model_len > 0;
  const auto context = chosen ? std::min(c.context, options.max_model_len) : c.context;
  const auto first = wished == by_device || few ? 1 : wished;
  const auto last = wished == by_device ? std::min(there, c.layers) : wished;
  attempt best;
  for (uint32_t stages = first; stages <= last; ++stages) {
    best = try_split(model, options, compute, devices, stages, context, working_bytes);
    if (best.layout.blocks > 0 && best.capacity() >= context)
      return std::move(best.layout);
  }
  const auto& fullest = best.layout.parts.front();
  if (best.layout.blocks == 0) {
    if (options.kv_cache_bytes > 0 && best.missing == 0)
      return bad_option("a KV cache of " + std::to_string(options.kv_cache_bytes) +
                        " bytes does not hold one block: raise option.kv_cache_bytes");
    return caf::make_error(
        ec::out_of_memory,
        "'" + model.folder + "' does not fit: its weights take " + gibibytes(fullest.weight_bytes) +
            " and its working memory " + gibibytes(fullest.working_bytes) + " of each of " +
            std::to_string(last) + " GPU" + (last > 1 ? "s" : "") + ", which give " +
            gibibytes(budget_of(fullest.device, options)) + ": " +
            remedy(model, options, compute, fullest.device, context, working_bytes));
  }
  const auto capacity = static_cast<uint32_t>(std::min<uint64_t>(best.capacity(), context));
  if (chosen)
    return bad_option("a context of " + std::to_string(context) +
                      " tokens does not fit beside the "
                      "weights: there is room for " +
                      std::to_string(capacity) +
                      ": set option.max_model_len to at most that, or use more GPUs");
  // Nobody asked for the model's whole context: what fits is served.
  return try_split(model, options, compute, devices, last, capacity, working_bytes).layout;
}

caf::expected<copy_places> place_copies(const decoder_model& model, const load_options& options,
                                        dtype compute,
                                        const std::vector<device_description>& devices, bool few,
                                        const working_bytes_function& working_bytes) {
  const auto there = static_cast<uint32_t>(devices.size());
  copy_places places{.groups = {}, .stages = options.shards, .chosen = false, .left_out = {}};
  if (few || options.shards == all_devices) {
    places.groups.push_back(devices);
    return places;
  }
  if (options.shards != by_device) {
    places.chosen = true;
    const auto size = std::min(std::max(options.shards, 1u), there); // Too many: lay_out says so.
    for (uint32_t i = 0; i + size <= there; i += size)
      places.groups.emplace_back(devices.begin() + i, devices.begin() + i + size);
    return places;
  }
  const auto& c = model.config;
  const auto context =
      options.max_model_len > 0 ? std::min(c.context, options.max_model_len) : c.context;
  auto alone = options;
  alone.shards = places.stages = 1;
  for (const auto& device : devices) {
    const auto layout = lay_out(model, alone, compute, {device}, false, working_bytes);
    if (layout && layout->context == context)
      places.groups.push_back({device});
    else
      places.left_out.push_back(
          "GPU " + std::to_string(device.ordinal) + " gets no copy: " +
          (layout ? "its memory holds no whole context" : text_of(layout.error())));
  }
  if (!places.groups.empty())
    return places;
  places.left_out.clear();
  places.groups.push_back(devices);
  places.stages = std::min(there, c.layers);
  return places;
}

std::vector<std::string> describe(const decoder_model& model, const device_layout& layout,
                                  const load_options& options) {
  std::vector<std::string> lines;
  for (const auto& part : layout.parts)
    lines.push_back("GPU " + std::to_string(part.device.ordinal) + " (" + part.device.name +
                    "): layers " + std::to_string(part.range.first) + " to " +
                    std::to_string(part.range.last - 1) + ", weights " +
                    gibibytes(part.weight_bytes) + ", working memory and recordings " +
                    gibibytes(part.working_bytes) + ", KV cache " + gibibytes(part.kv_bytes));
  const uint64_t tokens = uint64_t{layout.blocks} * options.kv_block_tokens;
  const auto users = tokens / std::max(1u, layout.context);
  lines.push_back("KV cache for " + std::to_string(tokens) + " tokens: " + std::to_string(users) +
                  (users == 1 ? " user" : " users") + " with the longest context of " +
                  std::to_string(layout.context) + " tokens" +
                  (layout.context < model.config.context && options.max_model_len == 0
                       ? " (the model's own " + std::to_string(model.config.context) +
                             " do not fit beside its weights)"
                       : ""));
  return lines;
}

} // namespace troupe::models

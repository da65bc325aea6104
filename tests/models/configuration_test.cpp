#include <catch2/catch.hpp>

#include <filesystem>
#include <random>

#include "golden.hpp"
#include "temporary_folder.hpp"
#include "troupe/models/decoder_model.hpp"
#include "troupe/models/inspect.hpp"
#include "troupe/models/rope.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Plans the tiny Llama after one change of its config.json.
caf::error problem_after(const std::string& from, const std::string& to,
                         const std::string& model = "llama") {
  temporary_folder folder;
  folder.copy_from(golden_model(model));
  folder.replace("config.json", from, to);
  auto options = golden_options(model);
  options.folder = folder.path();
  auto plan = plan_model(options);
  return plan ? caf::error{} : plan.error();
}

void check_problem(const std::string& from, const std::string& to, ec code, const std::string& part,
                   const std::string& model = "llama") {
  const auto err = problem_after(from, to, model);
  INFO(to << " gave: " << text_of(err));
  CHECK(code_of(err) == code);
  CHECK(contains(text_of(err), part));
}

} // namespace

TEST_CASE("a value in config.json that makes no sense is refused by its field",
          "[models][configuration]") {
  const auto bad = ec::bad_model;
  check_problem("\"hidden_size\": 64", "\"hidden_size\": 0", bad,
                "'hidden_size' is not a whole number from 1");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": -64", bad, "'hidden_size'");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": \"64\"", bad, "'hidden_size'");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": 64.5", bad, "'hidden_size'");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": 1e300", bad, "'hidden_size'");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": 18446744073709551615", bad,
                "'hidden_size'");
  check_problem("\"hidden_size\": 64,", "", bad, "'hidden_size' is missing");
  check_problem("\"hidden_size\": 64", "\"hidden_size\": 66", bad,
                "is not a multiple of num_attention_heads");
  check_problem("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", bad,
                "num_key_value_heads 3");
  check_problem("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2000000000", bad,
                "'num_hidden_layers'");
  check_problem("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", bad,
                "'num_attention_heads'");
  check_problem("\"vocab_size\": 259", "\"vocab_size\": []", bad, "'vocab_size'");
  check_problem("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1", bad, "'rms_norm_eps'");
  check_problem("\"rope_theta\": 10000.0", "\"rope_theta\": 0", bad, "'rope_theta'");
  check_problem("\"max_position_embeddings\": 4096", "\"max_position_embeddings\": 0", bad,
                "'max_position_embeddings'");
  check_problem("\"eos_token_id\": 2", "\"eos_token_id\": [2, -1]", bad, "'eos_token_id'");
  check_problem("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 0", bad,
                "'tie_word_embeddings'");
  check_problem("\"factor\": 8.0", "\"factor\": \"x\"", bad, "'rope_scaling.factor'", "llama-yarn");
  check_problem("\"factor\": 8.0", "\"factor\": 0.5", bad, "'rope_scaling.factor'",
                "llama-dynamic");
  check_problem("\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0", bad,
                "high_freq_factor above", "llama-llama3");
  check_problem("\"sliding_window\": 70", "\"sliding_window\": 0", bad, "'sliding_window'",
                "mistral");
  check_problem("\"n_head\": 3", "\"n_head\": 5", bad, "is not a multiple of n_head", "gpt2");
}

TEST_CASE("what we lack is refused with a list of what we have", "[models][configuration]") {
  const auto lacking = ec::unsupported_model;
  check_problem("LlamaForCausalLM", "MambaForCausalLM", lacking,
                "architecture 'MambaForCausalLM' is not supported; supported are LlamaForCausalLM, "
                "MistralForCausalLM");
  check_problem("[\n  \"LlamaForCausalLM\"\n ]", "[]", ec::none, "");
  check_problem("\"silu\"", "\"mish\"", lacking,
                "activation 'mish' is not supported; supported are silu");
  check_problem("\"linear\"", "\"longrope\"", lacking, "rope scaling 'longrope' is not supported",
                "llama-linear");
  check_problem("\"hidden_act\"", "\"quantization_config\": {\"bits\": 4}, \"hidden_act\"", lacking,
                "quantized");
}

TEST_CASE("a model type stands in for a missing architecture", "[models][configuration]") {
  check_problem("\"architectures\": [\n  \"LlamaForCausalLM\"\n ],", "", ec::none, "");
  check_problem("\"architectures\": [\n  \"LlamaForCausalLM\"\n ],\n \"model_type\": \"llama\"",
                "\"model_type\": \"t5\"", ec::unsupported_model,
                "model type 't5' is not supported");
}

TEST_CASE("weights that do not fit config.json are refused by name", "[models][configuration]") {
  check_problem("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", ec::bad_model,
                "lacks the tensor 'model.layers.3.input_layernorm.weight'");
  check_problem(
      "\"vocab_size\": 259", "\"vocab_size\": 260", ec::bad_model,
      "tensor 'model.embed_tokens.weight' is [259, 64] F32, but config.json asks for [260, 64]");
  check_problem("\"hidden_act\"", "\"attention_bias\": true, \"hidden_act\"", ec::bad_model,
                "q_proj.bias");
}

TEST_CASE("a weight of a type that is not read is refused by name", "[models][configuration]") {
  temporary_folder folder;
  folder.copy_from(golden_model("llama"));
  folder.replace("model.safetensors", "\"lm_head.weight\":{\"dtype\":\"F32\"",
                 "\"lm_head.weight\":{\"dtype\":\"I32\"");
  auto opened = open_decoder(folder.path());
  REQUIRE(!opened);
  CHECK(contains(text_of(opened.error()),
                 "tensor 'lm_head.weight' is [259, 64] I32; weights are read in"));
}

TEST_CASE("folders that are no model folders get one clear sentence", "[models][configuration]") {
  load_options options;
  options.folder = "/nonexistent";
  CHECK(contains(text_of(plan_model(options).error()), "is not a folder"));
  temporary_folder folder;
  options.folder = folder.path();
  CHECK(contains(text_of(plan_model(options).error()), "has no config.json"));
  folder.write("config.json", "{\"architectures\": [\"LlamaForCausalLM\"");
  CHECK(contains(text_of(plan_model(options).error()), "is not valid JSON"));
  folder.write("config.json", "[1]");
  CHECK(contains(text_of(plan_model(options).error()), "is not a JSON object"));
  folder.write("config.json", "{}");
  CHECK(code_of(plan_model(options).error()) == ec::unsupported_model);
  std::filesystem::create_directory(folder / "sub");
  std::filesystem::create_directory(folder / "sub/config.json");
  options.folder = folder / "sub";
  CHECK(code_of(plan_model(options).error()) == ec::bad_model);
}

TEST_CASE("generation_config.json overrides the end tokens of config.json",
          "[models][configuration]") {
  temporary_folder folder;
  folder.copy_from(golden_model("llama"));
  CHECK(read_configuration(folder.path())->config.eos_tokens == std::vector<int32_t>{2});
  folder.write("generation_config.json", R"({"eos_token_id": [5, 6], "bos_token_id": 7})");
  auto model = read_configuration(folder.path());
  REQUIRE(model);
  CHECK(model->config.eos_tokens == std::vector<int32_t>{5, 6});
  CHECK(model->config.bos_token == 7);
  folder.write("generation_config.json", "{]");
  CHECK(contains(text_of(read_configuration(folder.path()).error()),
                 "generation_config.json' is not valid JSON"));
}

TEST_CASE("options out of range are refused", "[models][configuration]") {
  const auto problem = [](auto change) {
    auto options = golden_options("llama");
    change(options);
    auto plan = plan_model(options);
    REQUIRE(!plan);
    CHECK(code_of(plan.error()) == ec::bad_option);
    return text_of(plan.error());
  };
  CHECK(contains(problem([](auto& o) { o.dtype = "int3"; }), "Invalid data type: int3"));
  CHECK(contains(problem([](auto& o) { o.shards = 4; }),
                 "3 layers, which cannot be split over 4 shards"));
  CHECK(contains(problem([](auto& o) { o.shards = 0; }), "0 shards"));
  CHECK(contains(problem([](auto& o) { o.kv_block_tokens = 12; }),
                 "option.kv_block_tokens to 8, 16 or 32"));
  CHECK(contains(problem([](auto& o) { o.kv_cache_bytes = 1; }), "does not hold one block"));
}

TEST_CASE("the plan tells sizes and limits", "[models][configuration]") {
  auto options = golden_options("llama-dynamic");
  auto plan = plan_model(options);
  REQUIRE(plan);
  CHECK(plan->info.architecture == "LlamaForCausalLM");
  CHECK(plan->info.parameters == 134976);
  CHECK(plan->info.context == 2048); // 256 positions, times 8
  CHECK(plan->info.kv_bytes_per_token == 3 * 2 * 2 * 16 * 4);
  CHECK(plan->kv_block_bytes == 16 * plan->info.kv_bytes_per_token);
  CHECK(plan->kv_blocks == (64 << 20) / plan->kv_block_bytes);
  REQUIRE(plan->info.rope_base_for);
  CHECK(plan->info.rope_base_for(256) == 10000);
  CHECK(plan->info.rope_base_for(512) > 10000);
  options.max_model_len = 100;
  CHECK(plan_model(options)->info.context == 100);
  options.dtype = "bf16";
  CHECK(plan_model(options)->info.kv_bytes_per_token == 3 * 2 * 2 * 16 * 2);
}

TEST_CASE("a weight file truncated between planning and loading fails the load, not the process",
          "[models][configuration]") {
  temporary_folder folder;
  folder.copy_from(golden_model("llama"));
  auto options = golden_options("llama");
  options.folder = folder.path();
  auto plan = plan_model(options);
  REQUIRE(plan);
  std::filesystem::resize_file(folder / "model.safetensors", 9000);
  auto stage = plan->stages.front()({});
  REQUIRE(!stage);
  CHECK(code_of(stage.error()) == ec::bad_model);
  CHECK(contains(text_of(stage.error()), "was truncated while tensor '"));
}

TEST_CASE("random damage to a folder is refused or harmless, never fatal",
          "[models][configuration]") {
  temporary_folder folder;
  folder.copy_from(golden_model("qwen3"));
  const auto weights = folder.read("model.safetensors");
  const auto config = folder.read("config.json");
  const auto header = weights.find("}}") + 2;
  auto options = golden_options("qwen3");
  options.folder = folder.path();
  std::mt19937 random{5};
  size_t refused = 0;
  for (int round = 0; round < 400; ++round) {
    auto damaged = round % 2 == 0 ? weights : config;
    const auto range = round % 2 == 0 ? header : damaged.size();
    for (uint32_t i = 0; i <= random() % 3; ++i)
      damaged[random() % range] = "0123456789\",:{}[]-e \0\xff"[random() % 23];
    if (random() % 4 == 0)
      damaged.resize(random() % damaged.size());
    folder.write(round % 2 == 0 ? "model.safetensors" : "config.json", damaged);
    if (auto plan = plan_model(options)) {
      CHECK(plan->stages.front()({}));
    } else {
      ++refused;
      CHECK(!text_of(plan.error()).empty());
    }
    folder.write("model.safetensors", weights);
    folder.write("config.json", config);
  }
  CHECK(refused > 200);
}

TEST_CASE("loading reports its progress up to the last byte", "[models][configuration]") {
  auto plan = plan_model(golden_options("gpt2"));
  REQUIRE(plan);
  uint64_t last = 0, total = 0;
  bool rising = true;
  REQUIRE(plan->stages.front()([&](uint64_t done, uint64_t all) {
    rising = rising && done >= last;
    last = done;
    total = all;
  }));
  CHECK(rising);
  CHECK(total > 0);
  CHECK(last == total);
}

TEST_CASE("inspect says what a folder is, what it takes, and why it cannot be served",
          "[models][inspect]") {
  auto report = inspect_folder(golden_model("qwen2-window"));
  CHECK(report.architecture == "Qwen2ForCausalLM");
  CHECK(report.parameters == 91488);
  CHECK(report.stored_bytes == 91488 * 4);
  CHECK(report.stored_type == "F32");
  REQUIRE(report.memory.size() == 6);
  // In fp32: whole, in 8 bits, in 4 bits.
  CHECK(report.memory[2].weight_bytes < report.memory[0].weight_bytes / 2);
  CHECK(report.memory[4].weight_bytes < report.memory[2].weight_bytes);
  CHECK(contains(render(report), "memory fp32, 4-bit"));
  CHECK(!report.supported); // The tiny models come without a tokenizer.
  CHECK(contains(render(report), "no: "));
  CHECK(contains(render(report), "sliding window 33"));
  temporary_folder folder;
  folder.copy_from(golden_model("qwen3"));
  folder.write("tokenizer.json", "{}");
  CHECK(inspect_folder(folder.path()).supported);
  std::filesystem::remove(folder / "tokenizer.json");
  CHECK(contains(inspect_folder(folder.path()).reason, "tokenizer.json is missing"));
  folder.copy_from(TROUPE_GOLDEN_DIR "/conversion/gpt2");
  report = inspect_folder(folder.path());
  CHECK(report.supported);
  CHECK(contains(render(report), "made of vocab.json"));
  folder.write("merges.txt", "a b c\n");
  CHECK(contains(inspect_folder(folder.path()).reason, "merges.txt line 1"));
  folder.replace("config.json", "Qwen3ForCausalLM", "SomethingElse");
  report = inspect_folder(folder.path());
  CHECK(!report.supported);
  CHECK(report.problem == ec::unsupported_model);
  CHECK(report.architecture == "SomethingElse");
  CHECK(inspect_folder("/nonexistent").problem == ec::bad_model);
}

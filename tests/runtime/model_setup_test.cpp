#include <catch2/catch.hpp>

#include "../models/temporary_folder.hpp"
#include "troupe/runtime/model_check.hpp"

using namespace troupe;
using namespace troupe::runtime;
using namespace std::chrono_literals;

namespace {

namespace fs = std::filesystem;
using weight = finding::weight;

/// A model folder that can be served, and what it is prepared from.
struct fixture {
  test::temporary_folder folder;
  config::sources from;
  config::model_request request;

  fixture() {
    folder.copy_from(TROUPE_GOLDEN_DIR "/models/llama");
    folder.write("tokenizer.json", "{}");
    from.variables["MODEL_SERVER_HOME"] = folder / "conf";
    from.variables["HF_HUB_OFFLINE"] = "1";
    from.variables["HF_HOME"] = folder / "hub";
    request.url = folder.path();
  }

  config::settings server() {
    auto result = config::resolve_server(from);
    if (!result)
      FAIL(text_of(result.error()));
    return result->values;
  }

  prepared_model prepare() {
    auto result = prepare_model(request, from, server(), {}, {});
    if (!result)
      FAIL(text_of(result.error()));
    return *result;
  }

  caf::error refusal() {
    auto result = prepare_model(request, from, server(), {}, {});
    REQUIRE(!result);
    return result.error();
  }

  model_report check() { return check_model(request, from, server()); }
};

bool found(const std::vector<finding>& findings, weight as, const std::string& part) {
  for (const auto& one : findings)
    if (one.as == as && one.text.find(part) != std::string::npos)
      return true;
  return false;
}

} // namespace

TEST_CASE_METHOD(fixture, "a request's arguments reach the model", "[runtime][model_setup]") {
  folder.write("serving.properties", "batch_size=2\nmax_batch_delay=5\noption.tgi_compat=true\n"
                                     "option.predict_timeout=7\nreserved_memory_mb=100\n"
                                     "gpu.required_memory_mb=3");
  request.name = "chat";
  request.version = "v1";
  request.devices = "-1";
  request.arguments = {{"batch_size", "4"}, {"job_queue_size", "9"}, {"max_worker", "3"}};
  auto model = prepare();
  CHECK(model.spec.name == "chat");
  CHECK(model.dialect.default_model == "chat");
  CHECK(model.version == "v1");
  CHECK(model.spec.load.folder == folder.path());
  CHECK(model.spec.load.devices == "cpu");
  CHECK(model.spec.queue_limit == 9);
  CHECK(model.job_queue_size == 9);
  CHECK(model.batch_size == 4);
  CHECK(model.max_batch_delay == 5ms);
  CHECK(model.max_idle_time == 60s);
  CHECK(model.cpu_workers.most == 3);
  CHECK(model.cpu_memory.reserved == 100ull << 20);
  CHECK(model.gpu_memory.reserved == 100ull << 20);
  CHECK(model.gpu_memory.required == 3ull << 20);
  CHECK(model.dialect.tgi_compat);
  CHECK(model.architecture == "LlamaForCausalLM");
  // batch_size > 1: no rolling batch, and the limit is the whole call's.
  CHECK(!model.rolling_batch);
  CHECK(model.settings.text("option.rolling_batch") == "disable");
  CHECK(model.spec.call_batch == 4);
  CHECK(model.dialect.deadline_ms == 7000);
}

TEST_CASE_METHOD(fixture, "a model's name is the request's, the setting's or the folder's",
                 "[runtime][model_setup]") {
  CHECK(prepare().spec.name == config::inferred_name(folder.path()));
  folder.write("serving.properties", "option.served_model_name=tiny-1.5");
  CHECK(prepare().spec.name == "tiny-1.5");
  request.name = "mine";
  CHECK(prepare().spec.name == "mine");
}

TEST_CASE_METHOD(fixture, "weights may lie elsewhere", "[runtime][model_setup]") {
  test::temporary_folder other;
  other.write("serving.properties", "option.model_id=" + folder.path());
  request.url = other.path();
  auto model = prepare();
  CHECK(model.spec.load.folder == folder.path());
  CHECK(model.folder == other.path());
  fs::create_directories(other / "weights");
  other.write("weights/config.json", "{}");
  other.write("serving.properties", "option.model_id=weights");
  CHECK(prepare().spec.load.folder == other / "weights");
  other.write("serving.properties", "option.model_id=org/name");
  CHECK(code_of(refusal()) == ec::model_not_found);
}

TEST_CASE_METHOD(fixture, "the model folder comes before the working directory for a chat template",
                 "[runtime][model_setup]") {
  CHECK(prepare().spec.chat_template.empty());
  folder.write("serving.properties", "option.chat_template=mine.jinja\n");
  CHECK(prepare().spec.chat_template == (std::filesystem::current_path() / "mine.jinja").string());
  CHECK(found(check().findings, weight::error, "option.chat_template: there is no file "));
  folder.write("mine.jinja", "{{ messages[0].content }}");
  CHECK(prepare().spec.chat_template == folder / "mine.jinja");
  folder.write("serving.properties", "option.chat_template=/elsewhere/mine.jinja\n");
  CHECK(prepare().spec.chat_template == "/elsewhere/mine.jinja");
}

TEST_CASE_METHOD(fixture, "a bad argument is refused by its name", "[runtime][model_setup]") {
  request.arguments = {{"batch_size", "many"}};
  auto problem = refusal();
  CHECK(code_of(problem) == ec::bad_option);
  CHECK(text_of(problem).find("argument batch_size") != std::string::npos);
}

TEST_CASE_METHOD(fixture, "a folder without a model is not found", "[runtime][model_setup]") {
  fs::remove(folder / "config.json");
  auto problem = refusal();
  CHECK(code_of(problem) == ec::model_not_found);
  CHECK(text_of(problem).find("config.json") != std::string::npos);
}

TEST_CASE_METHOD(fixture, "the old way of streaming does not go with batches",
                 "[runtime][model_setup]") {
  folder.write("serving.properties", "batch_size=2\noption.enable_streaming=true");
  auto problem = refusal();
  CHECK(code_of(problem) == ec::bad_option);
  CHECK(text_of(problem).find("batch_size > 1 (") != std::string::npos);
  folder.write("serving.properties", "option.rolling_batch=disable\noption.enable_streaming=true");
  CHECK(prepare().settings.text("option.enable_streaming") == "true");
}

TEST_CASE("sources follow the environment", "[runtime][model_setup]") {
  config::settings s;
  auto plain = source_options_of(s, {{"HOME", "/home/x"}});
  CHECK(plain.hub_cache == "/home/x/.cache/huggingface/hub");
  CHECK(plain.unpack_folder == "/home/x/.cache/troupe");
  CHECK(plain.hub_endpoint == "https://huggingface.co");
  CHECK(!plain.offline);
  CHECK(source_options_of(s, {{"HF_HOME", "/hf"}, {"HOME", "/x"}}).hub_cache == "/hf/hub");
  auto given = source_options_of(s, {{"HF_HUB_CACHE", "/cache"},
                                     {"HF_ENDPOINT", "http://hub:80/"},
                                     {"HF_TOKEN", "t"},
                                     {"HF_HUB_OFFLINE", "YES"},
                                     {"XDG_CACHE_HOME", "/xdg"}});
  CHECK(given.hub_cache == "/cache");
  CHECK(given.hub_endpoint == "http://hub:80");
  CHECK(given.hub_token == "t");
  CHECK(given.offline);
  CHECK(given.unpack_folder == "/xdg/troupe");
  REQUIRE(s.set("download_dir", "/unpack"));
  CHECK(source_options_of(s, {}).unpack_folder == "/unpack");
  test::temporary_folder home;
  home.write("token", "from-file\n");
  CHECK(source_options_of(s, {{"HF_HOME", home.path()}}).hub_token == "from-file");
}

TEST_CASE_METHOD(fixture, "a good model has nothing against it", "[runtime][model_check]") {
  folder.write("tokenizer_config.json", R"({"chat_template": "x"})");
  auto report = check();
  INFO(render(report));
  CHECK(report.findings.empty());
  auto text = render(report);
  CHECK(text.find("continuous, up to 32 sequences") != std::string::npos);
  CHECK(text.find("LlamaForCausalLM") != std::string::npos);
}

TEST_CASE_METHOD(fixture, "misspelt, misplaced and ignored keys are found",
                 "[runtime][model_check]") {
  folder.write("serving.properties", "option.dtpye=bf16\njob_queue_sizes=1\nlog_level=debug\n"
                                     "option.dtype=bf16\noption.dtype=fp32\n"
                                     "option.enable_lora=true\noption.trust_remote_code=true\n");
  folder.write("model.py", "");
  fs::create_directories(folder / "adapters/one");
  auto all = check().findings;
  CHECK(found(all, weight::warning, "did you mean option.dtype?"));
  CHECK(found(all, weight::warning, "did you mean job_queue_size?"));
  CHECK(found(all, weight::warning, "is a setting of the server"));
  CHECK(found(all, weight::warning, "replaces that of line 4"));
  CHECK(found(all, weight::warning, "is a setting of LMI that has no effect here"));
  CHECK(found(all, weight::warning, "cannot run in Troupe"));
  CHECK(found(all, weight::warning, "model.py: Python code"));
  CHECK(found(all, weight::warning, "adapters/"));
  CHECK(found(all, weight::note, "no chat template"));
  CHECK(!check().has(weight::error));
}

TEST_CASE_METHOD(fixture, "what cannot be served is an error with all its reasons",
                 "[runtime][model_check]") {
  folder.write("serving.properties", "option.dtype=fp8\nbatch_size=0");
  auto all = check().findings;
  CHECK(found(all, weight::error, "option.dtype"));
  CHECK(found(all, weight::error, "batch_size"));
  folder.write("serving.properties", "");
  fs::remove(folder / "tokenizer.json");
  CHECK(found(check().findings, weight::error, "tokenizer.json"));
  request.url = folder / "missing";
  CHECK(found(check().findings, weight::error, "there is no "));
}

TEST_CASE_METHOD(fixture, "contradictions are named with both sides", "[runtime][model_check]") {
  auto judged = [&](const std::string& properties) {
    folder.write("serving.properties", properties);
    auto model = config::resolve_model(from, server(), folder.path());
    REQUIRE(model);
    return contradictions(model->values, server(), 4096);
  };
  auto says = [&](const std::string& properties, const std::string& part) {
    INFO(properties);
    CHECK(found(judged(properties), weight::warning, part));
  };
  CHECK(judged("").empty());
  CHECK(judged("option.rolling_batch=scheduler\noption.max_rolling_batch_size=8").empty());
  says("batch_size=4\noption.rolling_batch=scheduler", "option.rolling_batch=scheduler (");
  says("max_batch_delay=5", "max_batch_delay=5 (");
  says("option.device_map=auto\nload_on_devices=0", "load_on_devices=0 (");
  says("option.device_id=1\nload_on_devices=cpu", "option.device_id=1 (");
  says("load_on_devices=cpu\noption.dtype=fp16", "computed as fp32");
  says("load_on_devices=cpu\noption.cuda_graphs=false", "about GPUs");
  says("minWorkers=3\nmaxWorkers=2", "is cut to maxWorkers=2");
  says("option.max_model_len=10000", "more than the model's context of 4096");
  says("option.max_step_tokens=8", "less than option.max_rolling_batch_size=32");
  says("option.load_in_8bit=true\noption.load_in_4bit=true", "option.load_in_4bit=true");
  says("metrics_aggregation=5", "log_request_metric");
}

TEST_CASE_METHOD(fixture, "a default of the server contradicts nothing", "[runtime][model_check]") {
  from.variables["SERVING_BATCH_SIZE"] = "4";
  from.variables["SERVING_MAX_BATCH_DELAY"] = "7";
  auto model = config::resolve_model(from, server(), folder.path());
  REQUIRE(model);
  CHECK(contradictions(model->values, server(), 4096).empty());
}

#include "fixture.hpp"

using namespace troupe;
using namespace troupe::config;
using namespace troupe::test;
using namespace std::chrono_literals;

using fixture = settings_fixture;

TEST_CASE_METHOD(fixture, "server settings: variable over flag over file over default",
                 "[config][resolve]") {
  CHECK(server().values.integer("max_request_size") == 67108864);
  write("config.properties", "# ours\nmax_request_size=1000\n");
  auto by_file = server().values;
  CHECK(by_file.integer("max_request_size") == 1000);
  CHECK(by_file.origin_of("max_request_size").where == (folder / "config.properties:2").string());
  flag("max_request_size", "2000");
  auto by_flag = server().values;
  CHECK(by_flag.integer("max_request_size") == 2000);
  CHECK(by_flag.origin_of("max_request_size").where == "flag --max_request_size");
  from.variables["SERVING_MAX_REQUEST_SIZE"] = "3000";
  auto by_variable = server();
  CHECK(by_variable.values.integer("max_request_size") == 3000);
  CHECK(by_variable.values.origin_of("max_request_size").where ==
        "variable SERVING_MAX_REQUEST_SIZE");
  CHECK(warned(by_variable, "flag --max_request_size is ignored, because variable "
                            "SERVING_MAX_REQUEST_SIZE wins over it"));
}

TEST_CASE_METHOD(fixture,
                 "model settings: flag over file over OPTION_ over short-hand over default",
                 "[config][resolve]") {
  CHECK(model().values.integer("option.tensor_parallel_degree") == 0);
  from.variables["SM_NUM_GPUS"] = "5";
  CHECK(model().values.integer("option.tensor_parallel_degree") == 5);
  from.variables["TENSOR_PARALLEL_DEGREE"] = "4";
  CHECK(model().values.integer("option.tensor_parallel_degree") == 4);
  from.variables["OPTION_TENSOR_PARALLEL_DEGREE"] = "3";
  CHECK(model().values.origin_of("option.tensor_parallel_degree").where ==
        "variable OPTION_TENSOR_PARALLEL_DEGREE");
  write("serving.properties", "engine=Python\noption.tensor_parallel_degree=2\n");
  auto by_file = model().values;
  CHECK(by_file.integer("option.tensor_parallel_degree") == 2);
  CHECK(by_file.origin_of("option.tensor_parallel_degree").where ==
        (folder / "serving.properties:2").string());
  flag("option.tensor_parallel_degree", "1");
  CHECK(model().values.integer("option.tensor_parallel_degree") == 1);
}

TEST_CASE_METHOD(fixture, "on SageMaker its own header carries the id of a request",
                 "[config][resolve]") {
  CHECK(server().values.text("request_id_header_key") == "x-request-id");
  from.variables["SAGEMAKER_REGION"] = "eu-west-1";
  auto there = server().values;
  CHECK(there.text("request_id_header_key") == "X-Amzn-SageMaker-Inference-Id");
  CHECK(there.origin_of("request_id_header_key").where == "default on SageMaker");
  from.variables["SERVING_REQUEST_ID_HEADER_KEY"] = "x-mine";
  CHECK(server().values.text("request_id_header_key") == "x-mine");
}

TEST_CASE_METHOD(fixture, "what decides over health and failing is read from its variables",
                 "[config][resolve]") {
  from.variables["SERVING_FAIL_FAST"] = "true";
  from.variables["SERVING_HEALTH_CHECK_OVERRIDE"] = "TRUE";
  from.variables["SAGEMAKER_HEALTH_CHECK_OVERRIDE"] = "true";
  from.variables["ALLOW_REQUEST_HANDLER_OVERRIDE"] = "true";
  auto r = server();
  CHECK(r.warnings.empty());
  CHECK(r.values.boolean("fail_fast"));
  CHECK(r.values.boolean("health_check_override"));
  CHECK(r.values.boolean("fail_ping_when_unhealthy"));
  CHECK(r.values.boolean("allow_request_handler_override"));
}

TEST_CASE_METHOD(fixture, "the short-hands of the contract fill what is unset",
                 "[config][resolve]") {
  from.variables["PREDICT_TIMEOUT"] = "7";
  from.variables["MODEL_LOADING_TIMEOUT"] = "8";
  from.variables["MAX_BATCH_SIZE"] = "9";
  from.variables["MAX_CONCURRENT_REQUESTS"] = "10";
  from.variables["HF_TASK"] = "text-generation";
  from.variables["SERVING_RETRY_THRESHOLD"] = "11";
  auto s = model().values;
  CHECK(s.duration("option.predict_timeout") == 7s);
  CHECK(s.duration("option.model_loading_timeout") == 8s);
  CHECK(s.integer("option.max_rolling_batch_size") == 9);
  CHECK(s.integer("job_queue_size") == 10);
  CHECK(s.text("option.task") == "text-generation");
  CHECK(s.integer("retry_threshold") == 11);
  from.variables["SERVING_JOB_QUEUE_SIZE"] = "12";
  CHECK(model().values.integer("job_queue_size") == 12);
}

TEST_CASE_METHOD(fixture, "a shared setting of the server is the model's default",
                 "[config][resolve]") {
  from.variables["SERVING_JOB_QUEUE_SIZE"] = "5";
  CHECK(model().values.integer("job_queue_size") == 5);
  write("serving.properties", "job_queue_size=6");
  CHECK(model().values.integer("job_queue_size") == 6);
  from.variables.erase("SERVING_JOB_QUEUE_SIZE");
  flag("job_queue_size", "7");
  auto r = model();
  CHECK(r.values.integer("job_queue_size") == 6);
  CHECK(warned(r, "flag --job_queue_size is ignored"));
}

TEST_CASE_METHOD(fixture, "names of OPTION_ variables become keys", "[config][resolve]") {
  from.variables["OPTION_DTYPE"] = "bf16";
  from.variables["OPTION_ENTRYPOINT"] = "djl_python.huggingface";
  from.variables["OPTION_ENGINE"] = "MPI";
  from.variables["OPTION_max_model_len"] = "77";
  from.variables["OPTION_MODEL_ID"] = "";
  auto r = model();
  CHECK(r.warnings.empty());
  CHECK(r.values.text("option.dtype") == "bf16");
  CHECK(r.values.text("engine") == "Python");
  CHECK(r.values.integer("option.max_model_len") == 77);
  CHECK(!r.values.has("option.model_id"));
}

TEST_CASE_METHOD(fixture, "every bad value is named with key, value, place and what is allowed",
                 "[config][resolve]") {
  write("serving.properties", "\noption.dtype=fp8\noption.max_rolling_batch_size = many\n");
  from.variables["OPTION_TGI_COMPAT"] = "maybe";
  flag("option.kv_block_tokens", "0");
  auto text = model_error();
  INFO(text);
  auto file = (folder / "serving.properties").string();
  CHECK(text.starts_with("Invalid data type: fp8; option.dtype ("));
  CHECK(has(text, "option.dtype (" + file +
                      ":2): \"fp8\" is not allowed; allowed: one of auto, fp32, bf16, fp16"));
  CHECK(has(text, "option.max_rolling_batch_size (" + file +
                      ":3): \"many\" is not allowed; allowed: a whole number from 1 to 65536"));
  CHECK(has(text, "option.tgi_compat (variable OPTION_TGI_COMPAT): \"maybe\" is not allowed; "
                  "allowed: true or false"));
  CHECK(has(text, "option.kv_block_tokens (flag --option.kv_block_tokens): \"0\" is not allowed; "
                  "allowed: one of 8, 16, 32"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
}

TEST_CASE_METHOD(fixture, "a value that another place overrides need not be good",
                 "[config][resolve]") {
  from.variables["OPTION_DTYPE"] = "fp8";
  write("serving.properties", "option.dtype=fp32");
  CHECK(model().values.text("option.dtype") == "fp32");
}

TEST_CASE_METHOD(fixture, "an unknown key is a warning with its place and its nearest neighbour",
                 "[config][resolve]") {
  write("serving.properties", "option.dtpye=fp32\noption.is_peft_model=true\nmax_request_size=1\n"
                              "zzzzzzzzzz=1\noption.hf_token=abc\noption.task=\n");
  from.variables["OPTION_MAX_MODELLEN"] = "5";
  from.variables["SERVING_PROT"] = "5";
  auto r = model();
  auto file = (folder / "serving.properties").string();
  CHECK(warned(r, "option.dtpye=fp32 (" + file +
                      ":1) is not a known setting and ignored; did you mean option.dtype?"));
  CHECK(warned(r, "option.is_peft_model=true (" + file + ":2) is a setting of LMI that has no"));
  CHECK(warned(r, ":3) is a setting of the server"));
  CHECK(warned(r, "zzzzzzzzzz=1 (" + file +
                      ":4) is not a known setting and ignored; `troupe options`"));
  CHECK(warned(r, "option.hf_token=***"));
  CHECK(!warned(r, "abc"));
  CHECK(warned(r, "option.task (" + file + ":6) is empty and counts as unset"));
  CHECK(warned(r, "(variable OPTION_MAX_MODELLEN) is not a known setting and ignored; did you mean "
                  "option.max_model_len?"));
  CHECK(warned(server(), "prot=5 (variable SERVING_PROT) is not a known setting and ignored; did "
                         "you mean port?"));
}

TEST_CASE_METHOD(fixture, "of two lines with one key the later counts, and that is said",
                 "[config][resolve]") {
  write("serving.properties", "option.dtype=fp32\n\noption.dtype=bf16\n");
  auto r = model();
  CHECK(r.values.text("option.dtype") == "bf16");
  CHECK(warned(r, "serving.properties:3) replaces that of line 1"));
}

TEST_CASE_METHOD(fixture, "values that have no effect or are made good are warned about",
                 "[config][resolve]") {
  write("serving.properties", "option.trust_remote_code=true\noption.rolling_batch=vllm\n"
                              "option.predict_timeout=soon\noption.output_formatter=fancy\n");
  auto r = model();
  CHECK(r.values.text("option.rolling_batch") == "scheduler");
  CHECK(r.values.duration("option.predict_timeout") == 120s);
  CHECK(!r.values.has("option.output_formatter"));
  CHECK(warned(r, "cannot run in Troupe"));
  CHECK(warned(r, "vllm is not available here and taken as scheduler"));
  CHECK(warned(r, "\"soon\" is not allowed; allowed: a number of seconds from 0.001 to 86400; it "
                  "stays 120"));
  CHECK(warned(r, "it stays unset"));
  CHECK(r.warnings.size() == 4);
}

TEST_CASE_METHOD(fixture, "the config file is the given one, or that of conf/, or that of the home",
                 "[config][resolve]") {
  write("config.properties", "log_level=debug");
  CHECK(server().values.text("log_level") == "debug");
  write("conf/config.properties", "log_level=error");
  CHECK(server().values.text("log_level") == "error");
  write("other.properties", "log_level=trace\noption.dtype=fp32\n");
  from.config_file = folder / "other.properties";
  auto r = server();
  CHECK(r.values.text("log_level") == "trace");
  CHECK(warned(r, "belongs to a model"));
  from.config_file = folder / "missing.properties";
  CHECK(has(server_error(), "missing.properties"));
}

TEST_CASE_METHOD(fixture, "a broken properties file ends the start", "[config][resolve]") {
  write("serving.properties", "option.model_id = \\uZZZZ");
  CHECK(has(model_error(), "serving.properties:1:"));
}

TEST_CASE_METHOD(fixture, "variables of SageMaker win over files", "[config][resolve]") {
  write("config.properties", "max_request_size=1000");
  write("serving.properties", "option.predict_timeout=1\noption.model_loading_timeout=2\n"
                              "minWorkers=3\nmaxWorkers=4");
  from.variables["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = "5";
  from.variables["SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"] = "6";
  from.variables["SAGEMAKER_STARTUP_TIMEOUT"] = "7";
  from.variables["SAGEMAKER_NUM_MODEL_WORKERS"] = "8";
  auto s = model().values;
  CHECK(s.integer("max_request_size") == 5 << 20);
  CHECK(s.origin_of("max_request_size").where == "variable SAGEMAKER_MAX_PAYLOAD_IN_MB");
  CHECK(s.duration("option.predict_timeout") == 6s);
  CHECK(s.duration("option.model_loading_timeout") == 7s);
  CHECK(s.integer("minWorkers") == 8);
  CHECK(s.integer("maxWorkers") == 8);
  from.variables["SAGEMAKER_MAX_REQUEST_SIZE"] = "900";
  CHECK(server().values.integer("max_request_size") == 900);
  flag("option.predict_timeout", "9");
  CHECK(model().values.duration("option.predict_timeout") == 9s);
}

TEST_CASE_METHOD(fixture, "arguments of a call win over all", "[config][resolve]") {
  write("serving.properties", "batch_size=2\noption.dtype=fp32");
  flag("option.dtype", "bf16");
  from.arguments = {{"batch_size", "3", "argument batch_size"},
                    {"option.dtype", "fp16", "argument dtype"},
                    {"max_request_size", "1", "argument max_request_size"}};
  auto s = model().values;
  CHECK(s.integer("batch_size") == 3);
  CHECK(s.origin_of("batch_size").where == "argument batch_size");
  CHECK(s.text("option.dtype") == "fp16");
  CHECK(s.integer("max_request_size") == 67108864);
  from.arguments = {{"batch_size", "none", "argument batch_size"}};
  CHECK(has(model_error(), "batch_size (argument batch_size): \"none\" is not allowed"));
}

TEST_CASE_METHOD(fixture, "an alias counts where the key itself is not said, in either order",
                 "[config][resolve]") {
  write("serving.properties", "max_dynamic_batch_size=4");
  CHECK(model().values.integer("batch_size") == 4);
  for (auto text :
       {"max_dynamic_batch_size=4\nbatch_size=5", "batch_size=5\nmax_dynamic_batch_size=4"}) {
    write("serving.properties", text);
    auto r = model();
    CHECK(r.values.integer("batch_size") == 5);
    CHECK(r.warnings.empty());
  }
}

TEST_CASE_METHOD(fixture, "short-hands that begin as variables of the server are no unknown keys",
                 "[config][resolve]") {
  from.variables["SERVING_MIN_WORKERS"] = "2";
  from.variables["SERVING_MAX_WORKERS"] = "3";
  CHECK(server().warnings.empty());
  auto s = model().values;
  CHECK(s.integer("minWorkers") == 2);
  CHECK(s.integer("maxWorkers") == 3);
}

TEST_CASE_METHOD(fixture, "settings that other runtimes know are accepted with a word about them",
                 "[config][resolve]") {
  write("serving.properties", "option.quantize=bitsandbytes8\noption.load_in_4bit=true\n"
                              "option.enable_streaming=huggingface\noption.max_splits=2\n"
                              "option.max_sparsity=0.5\noption.low_cpu_mem_usage=false\n");
  auto r = model();
  CHECK(!warned(r, "option.quantize ("));
  CHECK(warned(r, "option.load_in_4bit (" + (folder / "serving.properties").string() +
                      ":2): deprecated: set option.quantize=bitsandbytes4"));
  CHECK(warned(r, ":5): accepted for the sake of existing files"));
  write("serving.properties", "option.quantize=gptq");
  CHECK(
      has(model_error(), "\"gptq\" is not allowed; allowed: one of bitsandbytes8, bitsandbytes4"));
}

TEST_CASE_METHOD(fixture, "a model without a folder reads no file", "[config][resolve]") {
  auto here = std::filesystem::current_path();
  write("serving.properties", "option.dtype=bf16");
  std::filesystem::current_path(folder);
  auto r = resolve_model(from, server().values, {});
  std::filesystem::current_path(here);
  REQUIRE(r);
  CHECK(!r->values.has("option.dtype"));
}

TEST_CASE_METHOD(fixture, "host and port replace their part of the address", "[config][resolve]") {
  auto at = [&] {
    auto e = listen_endpoint(server().values);
    if (!e)
      FAIL(text_of(e.error()));
    return e->host + " " + std::to_string(e->port);
  };
  CHECK(at() == "127.0.0.1 8080");
  flag("port", "0");
  CHECK(at() == "127.0.0.1 0");
  write("config.properties", "inference_address=http://0.0.0.0:9000");
  CHECK(at() == "0.0.0.0 0");
  flag("host", "::1");
  CHECK(at() == "::1 0");
  from.variables["SERVING_INFERENCE_ADDRESS"] = "http://localhost:7000/";
  CHECK(at() == "localhost 7000");
  from.variables["SERVING_PORT"] = "7001";
  CHECK(at() == "localhost 7001");
  from.variables["SERVING_INFERENCE_ADDRESS"] = "HTTP://[fe80::1]:70";
  from.variables.erase("SERVING_PORT");
  CHECK(at() == "fe80::1 70");
  from.variables["SERVING_INFERENCE_ADDRESS"] = "http://example.org";
  CHECK(at() == "example.org 80");
}

TEST_CASE_METHOD(fixture, "a socket file and TLS are addresses too", "[config][resolve]") {
  from.variables["SERVING_INFERENCE_ADDRESS"] = "unix:/tmp/troupe.sock";
  flag("port", "9"); // weaker than the variable
  auto socket = listen_endpoint(server().values);
  REQUIRE(socket);
  CHECK(socket->unix_path == "/tmp/troupe.sock");
  from.variables["SERVING_PORT"] = "10";
  auto replaced = listen_endpoint(server().values);
  REQUIRE(replaced);
  CHECK(replaced->unix_path.empty());
  CHECK(replaced->port == 10);
  from.variables.erase("SERVING_PORT");
  from.variables["SERVING_INFERENCE_ADDRESS"] = "https://0.0.0.0";
  write("config.properties", "certificate_file=c.pem\nprivate_key_file=k.pem");
  auto secure = listen_endpoint(server().values);
  REQUIRE(secure);
  CHECK(secure->tls);
  CHECK(secure->port == 443);
  CHECK(secure->unix_path.empty());
}

TEST_CASE_METHOD(fixture, "the management API has a listener of its own or shares one",
                 "[config][resolve]") {
  auto management = [&] {
    auto s = server().values;
    auto inference = listen_endpoint(s);
    REQUIRE(inference);
    return management_endpoint(s, *inference);
  };
  CHECK(!management()->has_value());
  write("config.properties", "inference_address=http://0.0.0.0:8080\n"
                             "management_address=HTTP://0.0.0.0:8080/\n");
  CHECK(!management()->has_value());
  from.variables["SERVING_MANAGEMENT_ADDRESS"] = "http://127.0.0.1:8081";
  auto apart = management();
  REQUIRE(apart);
  REQUIRE(apart->has_value());
  CHECK((*apart)->port == 8081);
  from.variables["SERVING_INFERENCE_ADDRESS"] = "http://127.0.0.1:0";
  from.variables["SERVING_MANAGEMENT_ADDRESS"] = "http://127.0.0.1:0";
  CHECK(management()->has_value());
  from.variables["SERVING_MANAGEMENT_ADDRESS"] = "8081";
  auto bad = management();
  REQUIRE(!bad);
  CHECK(has(text_of(bad.error()), "management_address (variable SERVING_MANAGEMENT_ADDRESS)"));
}

TEST_CASE_METHOD(fixture, "files are looked for below MODEL_SERVER_HOME unless they are typed",
                 "[config][resolve]") {
  write("config.properties", "certificate_file=tls/c.pem\nkeystore=/etc/k.p12");
  from.variables["SERVING_PRIVATE_KEY_FILE"] = "tls/k.pem";
  auto s = server().values;
  CHECK(s.text("certificate_file") == (folder / "tls/c.pem").string());
  CHECK(s.text("private_key_file") == (folder / "tls/k.pem").string());
  CHECK(s.text("keystore") == "/etc/k.p12");
  flag("certificate_file", "here.pem");
  CHECK(server().values.text("certificate_file") == "here.pem");
  from.variables.erase("MODEL_SERVER_HOME");
  CHECK(server().values.text("private_key_file") == "tls/k.pem");
}

TEST_CASE_METHOD(fixture, "a keystore does for https, too", "[config][resolve]") {
  write("config.properties", "inference_address=https://0.0.0.0:8443\nkeystore=k.p12\n"
                             "keystore_pass=secret");
  auto s = server().values;
  REQUIRE(listen_endpoint(s));
  CHECK(listen_endpoint(s)->tls);
  CHECK(s.text("keystore_pass") == "secret");
}

TEST_CASE_METHOD(fixture, "TLS needs no certificate, but never half of one", "[config][resolve]") {
  from.variables["SERVING_INFERENCE_ADDRESS"] = "https://0.0.0.0:8443";
  auto without = listen_endpoint(server().values);
  REQUIRE(without);
  CHECK(without->tls);
  write("config.properties", "certificate_file=c.pem");
  auto half = listen_endpoint(server().values);
  REQUIRE(!half);
  CHECK(has(text_of(half.error()), "private_key_file"));
}

TEST_CASE_METHOD(fixture, "a bad address is refused with its place", "[config][resolve]") {
  for (auto bad : {"unix:tmp/x", "unix:", "ftp://a", "0.0.0.0:80", "http://", "http://:80",
                   "http://a:b:80", "http://a:65535", "http://a:", "http://[::1", "http://[::1]x",
                   "http://a/b:80", "http://a:-1"}) {
    INFO(bad);
    from.variables["SERVING_INFERENCE_ADDRESS"] = bad;
    auto e = listen_endpoint(server().values);
    REQUIRE(!e);
    CHECK(code_of(e.error()) == ec::bad_option);
    CHECK(has(text_of(e.error()), "variable SERVING_INFERENCE_ADDRESS"));
    CHECK(has(text_of(e.error()), bad));
  }
}

TEST_CASE_METHOD(fixture, "the model's folder, weights and name", "[config][resolve]") {
  settings s;
  CHECK(weights_folder(s, "/models/x") == "/models/x");
  CHECK(served_name(s, "/models/SmolLM2-135M-Instruct/") == "SmolLM2_135M_Instruct");
  CHECK(served_name(s, "/") == "model");
  REQUIRE(s.set("option.model_id", "conf"));
  CHECK(weights_folder(s, folder) == folder / "conf");
  CHECK(weights_folder(s, "/nowhere") == "conf");
  REQUIRE(s.set("option.served_model_name", "tiny-1.5"));
  CHECK(served_name(s, "/models/x") == "tiny-1.5");
}

TEST_CASE("an assignment names a known key", "[config][resolve]") {
  auto a = parse_assignment("option.dtype=a=b");
  REQUIRE(a);
  CHECK(a->key == "option.dtype");
  CHECK(a->text == "a=b");
  for (auto bad : {"", "=x", "option.dtype", "option.dtpye=1"})
    CHECK(!parse_assignment(bad));
  CHECK(has(text_of(parse_assignment("option.dtpye=1").error()), "did you mean option.dtype?"));
}

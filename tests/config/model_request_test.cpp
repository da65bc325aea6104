#include "troupe/config/model_request.hpp"

#include "fixture.hpp"

using namespace troupe;
using namespace troupe::config;
using namespace troupe::test;

using fixture = settings_fixture;

namespace {

std::vector<model_request> parsed_list(std::string_view text) {
  auto list = parse_load_models(text);
  INFO(text);
  if (!list)
    FAIL(text_of(list.error()));
  return *list;
}

model_request one(std::string_view text) {
  auto list = parsed_list(text);
  REQUIRE(list.size() == 1);
  return list.front();
}

std::vector<std::string> urls(const std::vector<model_request>& list) {
  std::vector<std::string> out;
  for (const auto& r : list)
    out.push_back(r.url);
  return out;
}

using texts = std::vector<std::string>;

} // namespace

TEST_CASE("an entry of load_models is a URL with as much before it as one likes",
          "[config][model_request]") {
  auto whole = one("[chat:v2:Python:0;1]=/models/a");
  CHECK(whole.name == "chat");
  CHECK(whole.version == "v2");
  CHECK(whole.engine == "Python");
  CHECK(whole.devices == "0;1");
  CHECK(whole.url == "/models/a");
  CHECK(one("chat=/models/a").name == "chat");
  CHECK(one("chat::Python=/models/a").version.empty());
  CHECK(one("chat::Python=/models/a").engine == "Python");
  CHECK(one("[:::cpu]=x").devices == "cpu");
}

TEST_CASE("the equals sign of a URL is not that of an entry", "[config][model_request]") {
  CHECK(one("https://host/a.zip?x=1").url == "https://host/a.zip?x=1");
  CHECK(one("/models/a=b").url == "/models/a=b");
  auto named = one("[m]=https://host/a.zip?x=1");
  CHECK(named.name == "m");
  CHECK(named.url == "https://host/a.zip?x=1");
}

TEST_CASE("entries stand apart by commas and white space", "[config][model_request]") {
  CHECK(urls(parsed_list(" /a, /b\t/c,,\n/d ")) == texts{"/a", "/b", "/c", "/d"});
  CHECK(parsed_list(" , ").empty());
  CHECK(urls(parsed_list("/my\\ models/a\\,b,/c")) == texts{"/my models/a,b", "/c"});
  CHECK(urls(parsed_list(with_kept_blanks("/my models/a"))) == texts{"/my models/a"});
}

TEST_CASE("a malformed entry is named", "[config][model_request]") {
  for (auto bad : {"[a=/x", "[a]", "a=", "[]=", "a:b:c:d:e=/x"}) {
    INFO(bad);
    auto list = parse_load_models(bad);
    REQUIRE(!list);
    CHECK(code_of(list.error()) == ec::bad_option);
    CHECK(has(text_of(list.error()), bad));
    CHECK(has(text_of(list.error()), "[NAME:VERSION:ENGINE:DEVICES]=URL"));
  }
}

TEST_CASE_METHOD(fixture, "names come from the last part of a URL", "[config][model_request]") {
  CHECK(inferred_name("/models/SmolLM2-135M-Instruct/") == "SmolLM2_135M_Instruct");
  CHECK(inferred_name("/models/resnet-18.zip") == "resnet_18");
  CHECK(inferred_name("file:///models/a.tar.gz") == "a");
  CHECK(inferred_name("https://host/x/llama.v1.TGZ?sig=1/2") == "llama_v1");
  CHECK(inferred_name("HuggingFaceTB/SmolLM2-135M") == "SmolLM2_135M");
  CHECK(inferred_name("/") == "model");
  CHECK(inferred_name("/models/\xc3\xa9") == "model");
  write("a.zip/config.json", "{}");
  CHECK(inferred_name((folder / "a.zip").string()) == "a_zip");
}

TEST_CASE_METHOD(fixture, "a store of folders and archives holds a model in each",
                 "[config][model_request]") {
  write("store/b/config.json", "{}");
  write("store/a.tar.gz", "x");
  std::filesystem::create_directories(folder / "store/empty");
  auto store = folder / "store";
  auto found = [&] {
    auto list = scan_model_store(store);
    REQUIRE(list);
    return urls(*list);
  };
  CHECK(found() == texts{(store / "a.tar.gz").string(), (store / "b").string()});
  SECTION("any other file makes it one model") {
    write("store/readme.md", "x");
    CHECK(found() == texts{store.string()});
  }
  SECTION("so does a hidden entry") {
    write("store/.cache/x", "x");
    CHECK(found() == texts{store.string()});
  }
  CHECK(!scan_model_store(folder / "missing"));
}

TEST_CASE_METHOD(fixture, "the start-up models without a path", "[config][model_request]") {
  auto start = [&](std::string_view path = {}) {
    auto out = startup_models(path, server().values, from.variables);
    if (!out)
      FAIL(text_of(out.error()));
    return *out;
  };
  auto a = (folder / "store/a").string(), b = (folder / "store/b").string();
  write("store/a/config.json", "{}");
  write("store/b/config.json", "{}");

  auto none = startup_models({}, server().values, from.variables);
  REQUIRE(!none);
  CHECK(has(text_of(none.error()), "HF_MODEL_ID"));

  from.variables["HF_MODEL_ID"] = "org/name";
  CHECK(urls(start().models) == texts{"org/name"});
  CHECK(start().models.front().at_startup);

  flag("model_store", (folder / "store").string());
  CHECK(urls(start().models) == texts{a, b, "org/name"});

  flag("load_models", "[x]=b");
  auto named = start().models;
  CHECK(urls(named) == texts{b, "org/name"});
  CHECK(named.front().name == "x");

  from.variables["SERVING_LOAD_MODELS"] = "none";
  CHECK(urls(start().models) == texts{"org/name"});
  from.variables.erase("HF_MODEL_ID");
  CHECK(start().models.empty());

  from.variables["SERVING_LOAD_MODELS"] = "ALL";
  from.variables["SERVING_MODEL_STORE"] = (folder / "missing").string();
  auto missing = start();
  CHECK(missing.models.empty());
  CHECK(warned(missing.warnings, "model_store (variable SERVING_MODEL_STORE): "));
}

TEST_CASE_METHOD(fixture, "a path is the model, beside what the same command line names",
                 "[config][model_request]") {
  write("store/a/config.json", "{}");
  from.variables["HF_MODEL_ID"] = "org/name";
  write("config.properties", "load_models=/other\nmodel_store=" + (folder / "store").string());
  auto start = [&] {
    auto out = startup_models("/mine", server().values, from.variables);
    REQUIRE(out);
    return urls(out->models);
  };
  CHECK(start() == texts{"/mine"});
  flag("load_models", "/second");
  CHECK(start() == texts{"/mine", "/second"});
}

TEST_CASE_METHOD(fixture, "two start-up models of one name and version are refused",
                 "[config][model_request]") {
  flag("load_models", "/x/a,/y/a");
  auto out = startup_models({}, server().values, from.variables);
  REQUIRE(!out);
  CHECK(has(text_of(out.error()), "two models have the name a: /x/a and /y/a"));
  from.flags.clear();
  flag("load_models", "[a:1]=/x/a,[a:2]=/y/a");
  CHECK(startup_models({}, server().values, from.variables));
}

TEST_CASE("the arguments of a call become settings unless they say nothing",
          "[config][model_request]") {
  model_request r;
  r.devices = "-1";
  r.engine = "MPI";
  r.arguments = {
      {"batch_size", "4"}, {"max_batch_delay", "-1"}, {"min_worker", "2"}, {"max_worker", ""}};
  auto list = arguments_of(r);
  REQUIRE(list.size() == 3); // Without max_worker there is no min_worker.
  CHECK(list[0].key == "batch_size");
  CHECK(list[0].where == "argument batch_size");
  CHECK(list[1].key == "engine");
  CHECK(list[2].text == "cpu");
  r.arguments = {{"min_worker", "2"}, {"max_worker", "3"}};
  list = arguments_of(r);
  auto set_to = [&](std::string_view key) {
    auto at = std::find_if(list.begin(), list.end(), [&](auto& x) { return x.key == key; });
    return at == list.end() ? std::string{} : at->text;
  };
  for (std::string device : {"", "gpu.", "cpu."}) {
    CHECK(set_to(device + "minWorkers") == "2");
    CHECK(set_to(device + "maxWorkers") == "3");
  }
}

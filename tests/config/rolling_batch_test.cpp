#include "troupe/config/rolling_batch.hpp"

#include "fixture.hpp"

using namespace troupe;
using namespace troupe::config;
using namespace troupe::test;

namespace {

struct fixture : settings_fixture {
  caf::expected<batching_mode> mode(std::string_view architecture) {
    return resolve_rolling_batch(model().values, server().values, architecture);
  }

  bool rolling(std::string_view architecture = "LlamaForCausalLM") {
    auto result = mode(architecture);
    if (!result)
      FAIL(text_of(result.error()));
    return result->rolling;
  }
};

} // namespace

TEST_CASE_METHOD(fixture, "auto batches continuously what generates text",
                 "[config][rolling_batch]") {
  CHECK(rolling());
  CHECK(rolling("GPT2LMHeadModel"));
  CHECK(rolling("T5ForConditionalGeneration"));
  CHECK(rolling(""));
  CHECK(!rolling("BertForSequenceClassification"));
}

TEST_CASE_METHOD(fixture, "an explicit value counts", "[config][rolling_batch]") {
  write("serving.properties", "option.rolling_batch=disable");
  CHECK(!rolling());
  write("serving.properties", "option.rolling_batch=vllm");
  CHECK(rolling());
  write("serving.properties", "option.rolling_batch=scheduler");
  auto refused = mode("BertForSequenceClassification");
  REQUIRE(!refused);
  CHECK(code_of(refused.error()) == ec::bad_option);
  CHECK(has(text_of(refused.error()), "serving.properties:1"));
  CHECK(has(text_of(refused.error()), "BertForSequenceClassification"));
}

TEST_CASE_METHOD(fixture, "a batch_size of the model's own switches rolling batch off",
                 "[config][rolling_batch]") {
  write("serving.properties", "batch_size=4\noption.rolling_batch=scheduler");
  CHECK(!rolling());
  CHECK(has(mode("")->because, "batch_size > 1 ("));
  write("serving.properties", "option.rolling_batch=scheduler");
  from.arguments = {{"batch_size", "4", "argument batch_size"}};
  CHECK(!rolling());
  from.arguments.clear();
  write("config.properties", "batch_size=4");
  CHECK(rolling());
  from.variables["SERVING_BATCH_SIZE"] = "5";
  CHECK(rolling());
}

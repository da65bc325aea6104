#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/mock/settings.hpp"
#include "troupe/examples/load_test/results.hpp"

namespace CLI {
class App;
}

namespace troupe::load_test {

/// What was typed, as text: `plan.hpp` says what it means. Names as those of the flags.
struct options {
  std::string url;
  std::string dialect = "openai-chat";
  std::string model, path;
  std::string api_key, ca_file;
  std::vector<std::string> headers;
  bool insecure = false;
  std::string lmi_format = "jsonlines";
  std::string task = "text-classification", mask_token = "[MASK]";
  bool no_stream = false, allow_eos = false;
  double temperature = 0;
  std::string extra_body;

  uint32_t users = 0;
  double rate = 0;
  std::string arrivals = "poisson";
  double burstiness = 0.25;
  double ramp_from = 0;
  std::string ramp_time, ramp_up, think_time = "0";
  std::string trace;
  double trace_speed = 1;
  std::string duration;
  uint64_t requests = 0;
  std::string warm_up = "0", timeout = "300s";
  uint32_t max_in_flight = 0;
  uint32_t workers = 1;

  std::string input_tokens = "128", output_tokens = "64";
  std::string prompts, tokenizer;
  double shared_prefix = 0;
  uint32_t prefix_groups = 1;
  uint32_t turns = 1;
  bool token_ids = false;
  uint32_t vocabulary = 0;
  uint64_t seed = 1;

  std::vector<double> sweep_rate;
  std::vector<uint32_t> sweep_users;
  std::string search;
  bool searches = false;
  uint32_t repeats = 1;
  std::string slo;

  std::string json, csv, requests_csv, html;
  bool quiet = false;

  std::string behaviour;
  double behaviour_share = 0.5;

  std::string mock;
  bool with_mock = false;

  /// Every flag that was given, and its value as shown in reports: secrets are not.
  std::vector<std::pair<std::string, std::string>> given;
};

/// Adds the flags of a run to `app`; `to` is filled while the command line is parsed.
void add_run_flags(CLI::App& app, options& to);

/// Fills `options::given`. Call when parsing is over.
void note_given(const CLI::App& app, options& to);

} // namespace troupe::load_test

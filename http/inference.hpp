#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/http/router.hpp"

/// The routes that have a model work: what they ask of it. Plain functions; neither actors nor
/// sockets.
namespace troupe::http {

/// Which model a request is for, and how that one answers.
struct addressee {
  std::string model; ///< Empty: the engine finds out.
  std::string version;
  std::shared_ptr<const dialect_settings> dialect; ///< Null: the server's.
  version_binding binding = version_binding::named;
  bool known = false;  ///< The catalogue has it.
  bool absent = false; ///< It does, but the engine has not got it: it is being fetched, or was not.
};

/// The model that an LMI inference path names; nullopt when the path is no inference route.
std::optional<addressee> inference_model(const std::vector<std::string_view>& at);

using parser = parsed_job (*)(const json::value&, const job_context&);

/// A generation, or why it is none.
/// @param by_path What the path says already.
/// @param parse Null: chosen by the body.
routed generate(const front_state& state, const request& r, const addressee& by_path,
                error_style style, parser parse);

/// POST /tokenize, /detokenize.
routed tokenize(const front_state& state, const request& r);
routed detokenize(const front_state& state, const request& r);

} // namespace troupe::http

#include "troupe/http/payload.hpp"

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/csv.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

json::value with_inputs(json::value inputs) {
  json::object out;
  out.emplace_back("inputs", std::move(inputs));
  return json::value{std::move(out)};
}

std::variant<payload, problem> read_form(std::string_view type, std::string_view body) {
  auto parts = parse_form(type, body);
  if (!parts)
    return problem{"", "the form in the body is malformed"};
  payload out;
  const form_part* data = nullptr;
  for (const auto& part : *parts) {
    if (part.name == "model_name")
      out.model = part.content;
    else if (part.name == "model_url")
      out.model_url = part.content;
    else if (part.name == "data" || !data)
      data = &part;
  }
  out.body = with_inputs(json::value{data ? data->content : std::string{}});
  return out;
}

} // namespace

std::variant<payload, problem> read_payload(const request& r, bool json_only) {
  auto* given = r.header("content-type");
  auto type = given ? lower(*given) : std::string{};
  auto json = type.empty() || type.find("json") != std::string::npos;
  if (json && r.body.empty() && !json_only)
    return payload{with_inputs(json::value{std::string{}})};
  if (json) {
    auto parsed = json::parse(r.body);
    if (!parsed)
      return problem{"", text_of(parsed.error())};
    return payload{std::move(*parsed)};
  }
  if (json_only)
    return problem{"", "send the body as JSON with Content-Type: application/json, not " + type};
  if (type.find("text/plain") != std::string::npos)
    return payload{.body = with_inputs(json::array{json::value{json::valid_utf8(r.body)}}),
                   .list_type = "text/plain"};
  if (type.find("text/csv") != std::string::npos) {
    auto inputs = read_csv(r.body);
    if (auto* why = std::get_if<problem>(&inputs))
      return std::move(*why);
    return payload{.body = with_inputs(std::move(std::get<json::value>(inputs))),
                   .list_type = "text/csv"};
  }
  if (type.find("multipart/form-data") != std::string::npos ||
      type.find("x-www-form-urlencoded") != std::string::npos)
    return read_form(*given, r.body);
  return payload{with_inputs(json::value{json::valid_utf8(r.body)})};
}

} // namespace troupe::http

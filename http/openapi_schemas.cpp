#include "troupe/http/route_table.hpp"

namespace troupe::http {

namespace {

constexpr std::string_view schemas = R"json({
"Any": {},
"Object": {"type": "object"},
"Error": {"type": "object"},
"Sampling": {"type": "object", "properties": {
  "temperature": {"type": "number", "minimum": 0, "description": "0 is greedy"},
  "top_k": {"type": "integer", "minimum": -1, "maximum": 2147483647, "description": "0 and -1 are off"},
  "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
  "min_p": {"type": "number", "minimum": 0, "maximum": 1},
  "typical_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
  "epsilon_cutoff": {"type": "number", "minimum": 0, "maximum": 1},
  "eta_cutoff": {"type": "number", "minimum": 0, "maximum": 1},
  "repetition_penalty": {"type": "number", "exclusiveMinimum": 0},
  "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "no_repeat_ngram_size": {"type": "integer", "minimum": 0, "maximum": 2147483647},
  "logit_bias": {"type": "object", "propertyNames": {"pattern": "^[0-9]{1,6}$"},
    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
  "stop": {"anyOf": [{"type": "string", "minLength": 1},
    {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1}}]},
  "stop_token_ids": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}},
  "ignore_eos": {"type": "boolean"},
  "include_stop_str_in_output": {"type": "boolean"},
  "skip_special_tokens": {"type": "boolean"},
  "seed": {"type": "integer", "minimum": 0, "maximum": 18446744073709551615}}},
"LmiParameters": {"allOf": [{"$ref": "#/components/schemas/Sampling"}, {"type": "object", "properties": {
  "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647, "default": 30},
  "do_sample": {"type": "boolean"},
  "details": {"type": "boolean"},
  "return_full_text": {"type": "boolean"},
  "decoder_input_details": {"type": "boolean", "description": "Not with streams"},
  "top_n_tokens": {"type": "integer", "minimum": 0, "maximum": 20},
  "truncate": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "n": {"type": "integer", "minimum": 1, "maximum": 128, "description": "Above 1 only with sampling and without streams"},
  "best_of": {"type": "integer", "minimum": 1, "maximum": 128},
  "decoding_strategy": {"enum": ["greedy", "sample", "contrastive"]},
  "output_formatter": {"enum": ["json", "jsonlines", "sse"]}}}]},
"Invocation": {"type": "object", "required": ["inputs"], "properties": {
  "inputs": {"type": "string", "minLength": 1},
  "parameters": {"$ref": "#/components/schemas/LmiParameters"},
  "stream": {"type": "boolean"},
  "cached_prompt": {"type": "string"}}},
"Message": {"type": "object", "required": ["role", "content"], "properties": {
  "role": {"enum": ["system", "user", "assistant"]},
  "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object",
    "required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": {"type": "string"}}}}]}}},
"StreamOptions": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
"ChatRequest": {"allOf": [{"$ref": "#/components/schemas/Sampling"}, {"type": "object",
  "required": ["messages"], "properties": {
  "model": {"type": "string", "description": "One of /v1/models; may be left out when there is only one"},
  "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
  "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "max_completion_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "temperature": {"type": "number", "minimum": 0, "maximum": 2},
  "logprobs": {"type": "boolean"},
  "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "n": {"type": "integer", "minimum": 1, "maximum": 128},
  "stream": {"type": "boolean"},
  "stream_options": {"$ref": "#/components/schemas/StreamOptions"}}}]},
"CompletionRequest": {"allOf": [{"$ref": "#/components/schemas/Sampling"}, {"type": "object",
  "required": ["prompt"], "properties": {
  "model": {"type": "string"},
  "prompt": {"anyOf": [{"type": "string", "minLength": 1},
    {"type": "array", "minItems": 1, "maxItems": 4, "items": {"type": "string", "minLength": 1}},
    {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}}]},
  "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647, "default": 16},
  "temperature": {"type": "number", "minimum": 0, "maximum": 2},
  "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "echo": {"type": "boolean"},
  "n": {"type": "integer", "minimum": 1, "maximum": 128},
  "best_of": {"type": "integer", "minimum": 1, "maximum": 128},
  "stream": {"type": "boolean"},
  "stream_options": {"$ref": "#/components/schemas/StreamOptions"}}}]},
"TokenizeRequest": {"type": "object", "properties": {
  "model": {"type": "string"},
  "prompt": {"type": "string"},
  "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
  "add_special_tokens": {"type": "boolean"},
  "add_generation_prompt": {"type": "boolean"}}},
"DetokenizeRequest": {"type": "object", "required": ["tokens"], "properties": {
  "model": {"type": "string"},
  "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}}}},
"TgiParameters": {"allOf": [{"$ref": "#/components/schemas/Sampling"}, {"type": "object", "properties": {
  "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647, "default": 100},
  "do_sample": {"type": "boolean"},
  "best_of": {"type": "integer", "minimum": 1, "maximum": 128},
  "details": {"type": "boolean"},
  "decoder_input_details": {"type": "boolean"},
  "return_full_text": {"type": "boolean"},
  "top_n_tokens": {"type": "integer", "minimum": 0, "maximum": 20},
  "truncate": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "watermark": {"type": "boolean", "description": "Ignored"}}}]},
"TgiRequest": {"type": "object", "required": ["inputs"], "properties": {
  "inputs": {"type": "string", "minLength": 1},
  "parameters": {"$ref": "#/components/schemas/TgiParameters"}}},
"TgiCompatRequest": {"allOf": [{"$ref": "#/components/schemas/TgiRequest"},
  {"type": "object", "properties": {"stream": {"type": "boolean"}}}]},
"Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"], "properties": {
  "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
  "total_tokens": {"type": "integer"}}},
"ChatCompletion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "properties": {"id": {"type": "string"}, "object": {"const": "chat.completion"},
  "created": {"type": "integer"}, "model": {"type": "string"},
  "choices": {"type": "array", "items": {"type": "object",
    "required": ["index", "message", "logprobs", "finish_reason"]}},
  "usage": {"$ref": "#/components/schemas/Usage"}}},
"Completion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "properties": {"id": {"type": "string"}, "object": {"const": "text_completion"},
  "created": {"type": "integer"}, "model": {"type": "string"},
  "choices": {"type": "array", "items": {"type": "object",
    "required": ["index", "text", "logprobs", "finish_reason"]}},
  "usage": {"$ref": "#/components/schemas/Usage"}}},
"Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
  "id": {"type": "string"}, "object": {"const": "model"}, "created": {"type": "integer"},
  "owned_by": {"type": "string"}, "max_model_len": {"type": "integer"}}},
"ModelList": {"type": "object", "required": ["object", "data"], "properties": {
  "object": {"const": "list"},
  "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
"ModelStates": {"type": "object", "additionalProperties": {"type": "object", "required": ["status"],
  "properties": {"status": {"enum": ["PENDING", "FAILED", "Healthy", "Unhealthy"]}}}},
"Info": {"type": "object", "required": ["model_id", "max_input_tokens", "max_total_tokens", "version"]},
"Tokens": {"type": "object", "required": ["tokens", "count", "max_model_len"], "properties": {
  "tokens": {"type": "array", "items": {"type": "integer"}}, "count": {"type": "integer"},
  "max_model_len": {"type": "integer"}}},
"Prompt": {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
"TgiAnswer": {"type": "object", "required": ["generated_text"], "properties": {
  "generated_text": {"type": "string"}, "details": {"type": "object"}}}
})json";

} // namespace

std::string_view openapi_schemas() {
  return schemas;
}

} // namespace troupe::http

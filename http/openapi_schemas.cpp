#include "troupe/http/route_table.hpp"

namespace troupe::http {

namespace {

constexpr std::string_view schemas = R"json({
"Object": {"type": "object"},
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
"LmiError": {"type": "object", "required": ["code", "type", "message"], "additionalProperties": false,
  "properties": {"code": {"type": "integer"}, "type": {"type": "string"}, "message": {"type": "string"}}},
"HandlerError": {"type": "object", "required": ["code", "error"], "additionalProperties": false,
  "properties": {"code": {"type": "integer"}, "error": {"type": "string"}, "message": {"const": "invoke handler failure"}}},
"OpenAiError": {"type": "object", "required": ["error"], "additionalProperties": false, "properties": {
  "error": {"type": "object", "required": ["message", "type", "param", "code"], "additionalProperties": false,
  "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
  "code": {"type": "string"}}}}},
"TgiError": {"type": "object", "required": ["error", "error_type"], "additionalProperties": false,
  "properties": {"error": {"type": "string"}, "error_type": {"type": "string"}}},
"Event": {"type": "object", "required": ["data"], "properties": {
  "data": {"type": "string", "description": "JSON, or [DONE] at the end on OpenAI's routes"}}},
"PingRefusal": {"anyOf": [{"$ref": "#/components/schemas/LmiError"}, {"$ref": "#/components/schemas/ModelStates"}]},
"Status": {"type": "object", "required": ["status"], "additionalProperties": false,
  "properties": {"status": {"type": "string"}}},
"LogProbability": {"type": ["number", "null"], "maximum": 0},
"LmiToken": {"type": "object", "required": ["id", "text"], "additionalProperties": false, "properties": {
  "id": {"type": "integer", "minimum": 0}, "text": {"type": "string"},
  "log_prob": {"$ref": "#/components/schemas/LogProbability"}, "special_token": {"const": true},
  "logprob": {"$ref": "#/components/schemas/LogProbability"}, "special": {"const": true}}},
"LmiTokens": {"type": "array", "items": {"$ref": "#/components/schemas/LmiToken"}},
"LmiSequence": {"type": "object", "required": ["finish_reason", "generated_tokens", "tokens"], "properties": {
  "finish_reason": {"enum": ["length", "eos_token", "stop_sequence", "error"]},
  "generated_tokens": {"type": "integer", "minimum": 0},
  "inputs": {"type": "string"}, "generated_text": {"type": "string"},
  "tokens": {"$ref": "#/components/schemas/LmiTokens"}, "prefill": {"$ref": "#/components/schemas/LmiTokens"},
  "top_tokens": {"type": "array", "items": {"$ref": "#/components/schemas/LmiTokens"}},
  "best_of_sequences": {"type": "array", "items": {"$ref": "#/components/schemas/LmiSequence"}}}},
"LmiAnswer": {"type": "object", "required": ["generated_text"], "additionalProperties": false, "properties": {
  "generated_text": {"type": "string"}, "details": {"$ref": "#/components/schemas/LmiSequence"}}},
"Generation": {"description": "A text, or a chat or completion where the body asks for one; arrays in the manner of TGI and of pipelines",
  "anyOf": [{"$ref": "#/components/schemas/LmiAnswer"}, {"$ref": "#/components/schemas/ChatCompletion"},
  {"$ref": "#/components/schemas/Completion"},
  {"type": "array", "items": {"anyOf": [{"$ref": "#/components/schemas/LmiAnswer"},
    {"type": "array", "items": {"$ref": "#/components/schemas/LmiAnswer"}}]}}]},
"ListedModel": {"type": "object", "required": ["modelName", "modelUrl", "status"], "additionalProperties": false,
  "properties": {"modelName": {"type": "string"}, "version": {"type": "string"}, "modelUrl": {"type": "string"},
  "status": {"enum": ["READY", "PENDING", "FAILED"]}}},
"ModelPage": {"type": "object", "required": ["models"], "additionalProperties": false, "properties": {
  "nextPageToken": {"type": "string"}, "models": {"type": "array", "items": {"$ref": "#/components/schemas/ListedModel"}}}},
"WorkflowPage": {"type": "object", "required": ["workflows"], "additionalProperties": false, "properties": {
  "nextPageToken": {"type": "string"}, "workflows": {"type": "array", "items": {"type": "object",
  "required": ["workflowName"], "additionalProperties": false,
  "properties": {"workflowName": {"type": "string"}, "version": {"type": "string"}}}}}},
"WorkerGroup": {"type": "object", "required": ["device", "minWorkers", "maxWorkers", "workers"], "properties": {
  "device": {"type": "object", "required": ["deviceType", "deviceId"], "properties": {
    "deviceType": {"enum": ["cpu", "gpu"]}, "deviceId": {"type": "integer", "minimum": -1}}},
  "minWorkers": {"type": "integer", "minimum": 0}, "maxWorkers": {"type": "integer", "minimum": 0},
  "workers": {"type": "array", "items": {"type": "object", "required": ["id", "startTime", "status"], "properties": {
    "id": {"type": "integer"}, "startTime": {"type": "string", "format": "date-time"},
    "status": {"enum": ["READY", "UNLOADING"]}}}}}},
"DescribedModel": {"type": "object", "required": ["modelName", "modelUrl", "batchSize", "maxBatchDelayMillis",
  "maxIdleSeconds", "queueSize", "requestInQueue", "status", "loadedAtStartup", "workerGroups"], "properties": {
  "modelName": {"type": "string"}, "modelUrl": {"type": "string"}, "batchSize": {"type": "integer"},
  "maxBatchDelayMillis": {"type": "integer"}, "maxIdleSeconds": {"type": "integer"},
  "queueSize": {"type": "integer"}, "requestInQueue": {"type": "integer"},
  "status": {"enum": ["Healthy", "Unhealthy", "PENDING", "FAILED"]},
  "reason": {"type": "string", "description": "Why it failed"},
  "loadedAtStartup": {"type": "boolean"},
  "workerGroups": {"type": "array", "items": {"$ref": "#/components/schemas/WorkerGroup"}}}},
"Workflows": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["workflowName", "models"],
  "additionalProperties": false, "properties": {"workflowName": {"type": "string"}, "version": {"type": "string"},
  "models": {"type": "array", "items": {"$ref": "#/components/schemas/DescribedModel"}}}}},
"Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"], "properties": {
  "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
  "total_tokens": {"type": "integer"}}},
"FinishReason": {"enum": ["stop", "length", "eos_token", "stop_sequence", "error", "tool_calls"]},
"TokenProbability": {"type": "object", "required": ["token", "logprob", "bytes"], "properties": {
  "token": {"type": "string"}, "logprob": {"type": "number", "maximum": 0},
  "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
  "top_logprobs": {"type": "array", "items": {"$ref": "#/components/schemas/TokenProbability"}}}},
"ChatCompletion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "additionalProperties": false,
  "properties": {"id": {"type": "string"}, "object": {"const": "chat.completion"},
  "created": {"type": "integer"}, "model": {"type": "string"},
  "system_fingerprint": {"type": "string", "description": "Where the request names a model"},
  "choices": {"type": "array", "items": {"type": "object", "additionalProperties": false,
    "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
    "index": {"type": "integer"},
    "message": {"type": "object", "required": ["role", "content"], "properties": {
      "role": {"const": "assistant"}, "content": {"type": ["string", "null"]}}},
    "logprobs": {"anyOf": [{"type": "null"}, {"type": "object", "required": ["content"], "properties": {
      "content": {"type": "array", "items": {"$ref": "#/components/schemas/TokenProbability"}}}}]},
    "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}},
  "usage": {"$ref": "#/components/schemas/Usage"}}},
"Completion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "additionalProperties": false,
  "properties": {"id": {"type": "string"}, "object": {"const": "text_completion"},
  "created": {"type": "integer"}, "model": {"type": "string"},
  "choices": {"type": "array", "items": {"type": "object", "additionalProperties": false,
    "required": ["index", "text", "logprobs", "finish_reason"], "properties": {
    "index": {"type": "integer"}, "text": {"type": "string"},
    "logprobs": {"anyOf": [{"type": "null"}, {"type": "object",
      "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"], "properties": {
      "tokens": {"type": "array", "items": {"type": "string"}},
      "token_logprobs": {"type": "array", "items": {"$ref": "#/components/schemas/LogProbability"}},
      "top_logprobs": {"type": "array", "items": {"type": ["object", "null"]}},
      "text_offset": {"type": "array", "items": {"type": "integer", "minimum": 0}}}}]},
    "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}},
  "usage": {"$ref": "#/components/schemas/Usage"}}},
"Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
  "id": {"type": "string"}, "object": {"const": "model"}, "created": {"type": "integer"},
  "owned_by": {"type": "string"}, "max_model_len": {"type": "integer"}}},
"ModelList": {"type": "object", "required": ["object", "data"], "properties": {
  "object": {"const": "list"},
  "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
"ModelStates": {"type": "object", "additionalProperties": {"type": "object", "required": ["status"],
  "properties": {"status": {"enum": ["PENDING", "FAILED", "Healthy", "Unhealthy"]}}}},
"Info": {"type": "object", "required": ["model_id", "max_best_of", "max_stop_sequences", "max_input_tokens",
  "max_total_tokens", "router", "version"], "properties": {"model_id": {"type": "string"},
  "max_input_tokens": {"type": "integer"}, "max_total_tokens": {"type": "integer"}, "version": {"type": "string"}}},
"Tokens": {"type": "object", "required": ["tokens", "count", "max_model_len"], "additionalProperties": false,
  "properties": {"tokens": {"type": "array", "items": {"type": "integer"}}, "count": {"type": "integer"},
  "max_model_len": {"type": "integer"}}},
"Prompt": {"type": "object", "required": ["prompt"], "additionalProperties": false,
  "properties": {"prompt": {"type": "string"}}},
"TgiToken": {"type": "object", "required": ["id", "text", "logprob"], "additionalProperties": false, "properties": {
  "id": {"type": "integer"}, "text": {"type": "string"}, "logprob": {"$ref": "#/components/schemas/LogProbability"},
  "special": {"type": "boolean"}}},
"TgiTokens": {"type": "array", "items": {"$ref": "#/components/schemas/TgiToken"}},
"TgiSequence": {"type": "object", "required": ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"],
  "properties": {"finish_reason": {"enum": ["length", "eos_token", "stop_sequence"]},
  "generated_tokens": {"type": "integer"}, "seed": {"type": ["integer", "null"]},
  "generated_text": {"type": "string"}, "prefill": {"$ref": "#/components/schemas/TgiTokens"},
  "tokens": {"$ref": "#/components/schemas/TgiTokens"},
  "top_tokens": {"type": "array", "items": {"$ref": "#/components/schemas/TgiTokens"}},
  "best_of_sequences": {"type": "array", "items": {"$ref": "#/components/schemas/TgiSequence"}}}},
"TgiAnswer": {"type": "object", "required": ["generated_text"], "additionalProperties": false, "properties": {
  "generated_text": {"type": "string"}, "details": {"$ref": "#/components/schemas/TgiSequence"}}},
"TgiAnswers": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"$ref": "#/components/schemas/TgiAnswer"}}
})json";

} // namespace

std::string_view openapi_schemas() {
  return schemas;
}

} // namespace troupe::http

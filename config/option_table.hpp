#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace troupe::config {

/// What the text of an option means, and so which getter of `settings` reads it.
enum class kind : uint8_t {
  boolean,      ///< true or false, in any case.
  integer,      ///< Whole number, or one of the option's words.
  bytes,        ///< Whole number with an optional suffix K, M, G or T (powers of 1024).
  number,       ///< Decimal fraction.
  seconds,      ///< Decimal fraction of seconds, kept in milliseconds.
  milliseconds, ///< Whole number.
  choice,       ///< One of the option's words, in any case.
  text,         ///< Anything.
  list,         ///< ["a", "b"]
  rate,         ///< N or N/DURATION, kept as text.
};

/// Whom an option belongs to, and so where it is read from (docs/options.md, "Where settings come
/// from").
enum class scope : uint8_t {
  server, ///< config.properties, flags, SERVING_*.
  model,  ///< serving.properties, OPTION_* for `option.` keys, flags.
  shared, ///< A model key whose default is a server setting of the same name.
};

inline constexpr double unlimited = std::numeric_limits<double>::infinity();

/// One option. All its text forms follow from this: parsing, `--help`, `troupe options`, docs.
struct option {
  std::string_view key; ///< As in a properties file, e.g. "option.dtype".
  scope level;
  kind type;
  std::string_view fallback;       ///< The default, written as a user would; empty: unset.
  std::string_view help;           ///< One sentence without a full stop.
  std::string_view flag = {};      ///< Of `troupe serve`, e.g. "--dtype"; empty: none.
  std::string_view letter = {};    ///< Its short form, e.g. "-m"; empty: none.
  std::string_view variables = {}; ///< Short-hand environment variables, the first one set counts.
  /// Words that a value may be, apart by spaces. choice: `a`, `b=a` (b is another name of a),
  /// `c~a` (taken as a, with a warning). integer, bytes: `word=number`.
  std::string_view words = {};
  double least = 0;             ///< Smallest value of a numeric kind.
  double most = unlimited;      ///< Largest one.
  std::string_view notice = {}; ///< Warning when the value differs from the default.
  bool lenient = false;         ///< A bad value is a warning and leaves the default.
  bool listed = false;          ///< integer: only `words` are allowed, whatever the range.
  bool secret = false;          ///< Shown as ***.
  std::string_view alias = {};  ///< Another key for it in files, which `key` wins over.
  /// Variables that win over files, the first one set counts; `NAME+M` puts M behind the value.
  std::string_view overrides = {};
  std::string_view complaint = {}; ///< LMI's words about a bad value, which goes behind them.
};

inline constexpr std::string_view without_effect =
    "accepted for the sake of existing files; it has no effect here";

/// Every option there is. A new one is one more line here; tests hold docs/options.md to it.
inline constexpr auto option_table = std::to_array<option>({
    // clang-format off
  // The listener.
  {.key = "inference_address", .level = scope::server, .type = kind::text, .fallback = "http://127.0.0.1:8080", .help = "Address to listen on: http[s]://host[:port] or unix:/path"},
  {.key = "host", .level = scope::server, .type = kind::text, .fallback = "", .help = "Host or IP address to listen on, in place of that of inference_address", .flag = "--host"},
  {.key = "port", .level = scope::server, .type = kind::integer, .fallback = "", .help = "Port to listen on, in place of that of inference_address; 0 takes a free one", .flag = "--port", .most = 65534},
  {.key = "management_address", .level = scope::server, .type = kind::text, .fallback = "", .help = "Address of the management API, as inference_address; unset, or the same: one listener for both"},
  {.key = "certificate_file", .level = scope::server, .type = kind::text, .fallback = "", .help = "Certificate chain (PEM) for an https address"},
  {.key = "private_key_file", .level = scope::server, .type = kind::text, .fallback = "", .help = "Private key (PEM) for an https address"},
  {.key = "keystore", .level = scope::server, .type = kind::text, .fallback = "", .help = "PKCS #12 file with key and certificates for an https address; wins over the two PEM files"},
  {.key = "keystore_pass", .level = scope::server, .type = kind::text, .fallback = "changeit", .help = "Password of keystore", .secret = true},
  {.key = "keystore_type", .level = scope::server, .type = kind::choice, .fallback = "PKCS12", .help = "Form of keystore", .words = "PKCS12"},
  {.key = "api_keys_file", .level = scope::server, .type = kind::text, .fallback = "", .help = "File with one API key per line, each with name=NAME and rate=N/s (or /m, /h) if wanted; without any key everybody may use the server", .flag = "--api-keys-file"},
  {.key = "memory_cache_capacity", .level = scope::server, .type = kind::integer, .fallback = "1000", .help = "Asynchronous results that are kept; the one that nobody asked for longest makes room for a new one", .least = 1, .most = 1000000},
  {.key = "cache_batch", .level = scope::server, .type = kind::integer, .fallback = "1", .help = "Stream items of an asynchronous result that become visible together", .least = 1, .most = 1000000},
  {.key = "number_of_netty_threads", .level = scope::server, .type = kind::integer, .fallback = "auto", .help = "Threads that read and write sockets", .flag = "--io-threads", .words = "auto=0", .most = 256},
  {.key = "max_request_size", .level = scope::server, .type = kind::bytes, .fallback = "67108864", .help = "Largest request body; a larger one is answered 413", .flag = "--max-request-size", .least = 1, .most = 4294967296.0, .overrides = "SAGEMAKER_MAX_REQUEST_SIZE SAGEMAKER_MAX_PAYLOAD_IN_MB+M"},
  {.key = "max_header_size", .level = scope::server, .type = kind::bytes, .fallback = "16384", .help = "Largest request header; a larger one is answered 431", .least = 1024, .most = 1048576},
  {.key = "header_timeout", .level = scope::server, .type = kind::seconds, .fallback = "30", .help = "Longest wait for a complete request header once its first byte has come", .least = 0.001, .most = 86400},
  {.key = "body_timeout", .level = scope::server, .type = kind::seconds, .fallback = "60", .help = "Longest wait for the next bytes of a request body", .least = 0.001, .most = 86400},
  {.key = "keep_alive_timeout", .level = scope::server, .type = kind::seconds, .fallback = "75", .help = "Longest rest of a connection between two requests", .least = 0.001, .most = 86400},
  {.key = "chunked_read_timeout", .level = scope::server, .type = kind::seconds, .fallback = "120", .help = "Longest wait for a client that doesn't read its stream, and for the next chunk of an answer", .flag = "--chunked-read-timeout", .least = 0.001, .most = 86400},
  {.key = "drain_timeout", .level = scope::server, .type = kind::seconds, .fallback = "30", .help = "Time that running requests have to finish after SIGTERM", .flag = "--drain-timeout", .most = 86400},
  {.key = "request_id_header_key", .level = scope::server, .type = kind::text, .fallback = "x-request-id", .help = "Header that carries the id of a request; on SageMaker, where some variable SAGEMAKER_* is set, X-Amzn-SageMaker-Inference-Id unless it is set"},
  {.key = "allow_request_handler_override", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "Take requests with a header or attribute \"handler\", which has no effect here, rather than refuse them", .overrides = "ALLOW_REQUEST_HANDLER_OVERRIDE"},
  {.key = "wait_model_loading", .level = scope::server, .type = kind::boolean, .fallback = "true", .help = "Take connections only once the start-up models have loaded, and end with exit code 1 when one fails; false: answer at once, /ping tells how far they are", .flag = "--wait-model-loading"},
  {.key = "allow_multi_status", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "/ping answers 207 while a model is loading"},
  {.key = "fail_ping_when_unhealthy", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "/ping answers 500 while a model has fewer workers than minWorkers", .overrides = "SAGEMAKER_HEALTH_CHECK_OVERRIDE"},
  {.key = "health_check_override", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "A model that was ready and has used up its retries still counts as healthy, in /ping and elsewhere; its requests are refused all the same"},
  {.key = "fail_fast", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "End the process with exit code 137 once a model that was ready has used up its retries, so that whoever supervises it starts it anew"},
  {.key = "error_rate_wlm", .level = scope::server, .type = kind::rate, .fallback = "", .help = "More requests than this refused for lack of room or readiness (503, 507) make /ping answer 503 for good"},
  {.key = "error_rate_server", .level = scope::server, .type = kind::rate, .fallback = "", .help = "The same for answers with 424 and other 5xx"},
  {.key = "error_rate_model", .level = scope::server, .type = kind::rate, .fallback = "", .help = "The same for requests during which the model failed"},
  {.key = "error_rate_any", .level = scope::server, .type = kind::rate, .fallback = "", .help = "The same for all of these together"},
  {.key = "cors_allowed_origin", .level = scope::server, .type = kind::text, .fallback = "", .help = "Value of Access-Control-Allow-Origin"},
  {.key = "cors_allowed_methods", .level = scope::server, .type = kind::text, .fallback = "", .help = "Value of Access-Control-Allow-Methods"},
  {.key = "cors_allowed_headers", .level = scope::server, .type = kind::text, .fallback = "", .help = "Value of Access-Control-Allow-Headers"},
  {.key = "bad_request_http_code", .level = scope::server, .type = kind::integer, .fallback = "400", .help = "Status of a request that is refused before inference, on LMI routes", .least = 400, .most = 599},
  {.key = "wlm_error_http_code", .level = scope::server, .type = kind::integer, .fallback = "503", .help = "Status while a model is not ready, and of a call that took longer than predict_timeout without rolling batch, on LMI routes", .least = 400, .most = 599},
  {.key = "throttle_error_http_code", .level = scope::server, .type = kind::integer, .fallback = "503", .help = "Status when the job queue is full, on LMI routes", .least = 400, .most = 599},
  {.key = "timeout_http_code", .level = scope::server, .type = kind::integer, .fallback = "400", .help = "Accepted for the sake of existing files; no answer has it: no batch slot in time is bad_request_http_code, a call that took too long wlm_error_http_code", .least = 400, .most = 599},
  {.key = "server_error_http_code", .level = scope::server, .type = kind::integer, .fallback = "500", .help = "Status of every other failure, on LMI routes", .least = 400, .most = 599},
  {.key = "prometheus", .level = scope::server, .type = kind::boolean, .fallback = "true", .help = "Serve metrics at /metrics and /server/metrics"},
  {.key = "trust_request_chat_template", .level = scope::server, .type = kind::boolean, .fallback = "false", .help = "Let a request bring its own chat template; a hostile one can end the process", .flag = "--trust-request-chat-template"},

  // The start-up models.
  {.key = "load_models", .level = scope::server, .type = kind::text, .fallback = "ALL", .help = "Models to load at the start: ALL (what model_store holds), NONE, or a list of [NAME:VERSION:ENGINE:DEVICES]=URL apart by commas, of which all but the URL may be left out", .flag = "--models", .letter = "-m"},
  {.key = "model_store", .level = scope::server, .type = kind::text, .fallback = "", .help = "Folder of model folders and archives", .flag = "--model-store", .letter = "-s"},
  {.key = "model_url_pattern", .level = scope::server, .type = kind::text, .fallback = "", .help = "Regular expression for whole URLs: an inference request on an LMI route for a model that is not there may name such a URL as model_url (query, header or form part), and it is loaded first; unset: none is"},
  {.key = "download_dir", .level = scope::server, .type = kind::text, .fallback = "", .help = "Folder in which archives are unpacked, once each; unset: troupe in XDG_CACHE_HOME or ~/.cache", .variables = "DJL_CACHE_DIR"},

  // The process.
  {.key = "publish_port", .level = scope::server, .type = kind::integer, .fallback = "", .help = "Port on which other processes reach the engine as an actor; 0 takes a free one, unset publishes nothing. There is no authentication: whoever reaches the port can use the models", .flag = "--publish-port", .most = 65534},
  {.key = "publish_address", .level = scope::server, .type = kind::text, .fallback = "127.0.0.1", .help = "Address of publish_port; any but a loopback one needs a network of trusted machines", .flag = "--publish-address"},
  {.key = "log_level", .level = scope::server, .type = kind::choice, .fallback = "info", .help = "Least severe log line that is written", .flag = "--log-level", .words = "trace debug info warn warning=warn error fatal off"},
  {.key = "log_format", .level = scope::server, .type = kind::choice, .fallback = "text", .help = "Form of the log: text, or one JSON object per line", .flag = "--log-format", .words = "text json"},
  {.key = "tokenizer_threads", .level = scope::server, .type = kind::integer, .fallback = "auto", .help = "Threads per model that render chat templates and encode", .flag = "--tokenizer-threads", .words = "auto=0", .most = 256},
  {.key = "actor_threads", .level = scope::server, .type = kind::integer, .fallback = "auto", .help = "Threads that run the actors; auto: 2, or 4 on 32 cores and more, because waking one costs more than what it does for a token", .flag = "--actor-threads", .words = "auto=0", .most = 1024},

  {.key = "otlp_endpoint", .level = scope::server, .type = kind::text, .fallback = "", .help = "OpenTelemetry collector that is sent a trace of every request, e.g. http://127.0.0.1:4318", .flag = "--otlp-endpoint", .variables = "OTEL_EXPORTER_OTLP_ENDPOINT"},

  // The queue of a model.
  {.key = "job_queue_size", .level = scope::shared, .type = kind::integer, .fallback = "1000", .help = "Requests that may wait; more are refused at once", .flag = "--job-queue-size", .variables = "MAX_CONCURRENT_REQUESTS", .least = 1, .most = 1000000},
  {.key = "retry_threshold", .level = scope::shared, .type = kind::integer, .fallback = "3", .help = "Losses of a shard after which a model is given up and its requests end with an error; LMI gives up at once (0)", .flag = "--retry-threshold", .most = 1000000},
  {.key = "batch_size", .level = scope::shared, .type = kind::integer, .fallback = "1", .help = "Requests that are put into one batch where there is no rolling batch; more than 1 in serving.properties switches it off", .least = 1, .most = 65536, .alias = "max_dynamic_batch_size"},
  {.key = "max_batch_delay", .level = scope::shared, .type = kind::milliseconds, .fallback = "100", .help = "Longest wait for such a batch to fill", .most = 86400000},
  {.key = "max_idle_time", .level = scope::shared, .type = kind::seconds, .fallback = "60", .help = "Rest after which a worker beyond minWorkers ends", .most = 31536000},

  // Its workers and their memory.
  {.key = "minWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "Workers (copies of the model) on each device that there are at least; where tensor_parallel_degree is set, on all GPUs together; unset: 1 each", .variables = "SERVING_MIN_WORKERS", .most = 1024, .overrides = "SAGEMAKER_NUM_MODEL_WORKERS"},
  {.key = "maxWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "Upper limit of these; unset: 1 on a GPU, or as many as tensor_parallel_degree leaves room for; on the CPU cores / OMP_NUM_THREADS where that is set, else 2", .variables = "SERVING_MAX_WORKERS", .most = 1024, .overrides = "SAGEMAKER_NUM_MODEL_WORKERS"},
  {.key = "gpu.minWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "minWorkers on GPUs", .most = 1024},
  {.key = "gpu.maxWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "maxWorkers on GPUs", .most = 1024},
  {.key = "cpu.minWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "minWorkers on the CPU", .most = 1024},
  {.key = "cpu.maxWorkers", .level = scope::model, .type = kind::integer, .fallback = "", .help = "maxWorkers on the CPU", .most = 1024},
  {.key = "reserved_memory_mb", .level = scope::shared, .type = kind::integer, .fallback = "500", .help = "MiB that must be left once a model is loaded; otherwise it is refused (507)", .most = 1073741824},
  {.key = "required_memory_mb", .level = scope::model, .type = kind::integer, .fallback = "0", .help = "MiB that the model is said to need, beside what is counted", .most = 1073741824},
  {.key = "gpu.reserved_memory_mb", .level = scope::model, .type = kind::integer, .fallback = "", .help = "reserved_memory_mb on GPUs; unset: as on the CPU", .most = 1073741824},
  {.key = "gpu.required_memory_mb", .level = scope::model, .type = kind::integer, .fallback = "", .help = "required_memory_mb on GPUs; unset: as on the CPU", .most = 1073741824},

  // Where it runs.
  {.key = "load_on_devices", .level = scope::shared, .type = kind::text, .fallback = "*", .help = "Where models run: * (GPUs if there are any), cpu, or GPUs such as 0;1 or gpu0;gpu1", .flag = "--devices"},

  // What is served.
  {.key = "engine", .level = scope::model, .type = kind::choice, .fallback = "Python", .help = "LMI's engine; accepted for the sake of existing files", .words = "Python MPI=Python"},
  {.key = "option.entryPoint", .level = scope::model, .type = kind::choice, .fallback = "djl_python.huggingface", .help = "LMI's handler; no other can run here", .words = "djl_python.huggingface"},
  {.key = "option.handler", .level = scope::model, .type = kind::text, .fallback = "", .help = "LMI's function in entryPoint; accepted for the sake of existing files", .notice = without_effect},
  {.key = "option.model_id", .level = scope::model, .type = kind::text, .fallback = "", .help = "Where the model is, if not beside serving.properties: a folder, an archive, or an id of the hub"},
  {.key = "option.revision", .level = scope::model, .type = kind::text, .fallback = "", .help = "Branch, tag or commit of a model of the hub; unset: main", .variables = "HF_REVISION"},
  {.key = "option.served_model_name", .level = scope::model, .type = kind::text, .fallback = "", .help = "Name under which clients ask for the model; by default the folder's", .flag = "--served-model-name"},
  {.key = "option.task", .level = scope::model, .type = kind::choice, .fallback = "", .help = "Task of the model; unset: text-generation, the only one that can run here", .variables = "HF_TASK", .words = "text-generation"},
  {.key = "option.dtype", .level = scope::model, .type = kind::choice, .fallback = "", .help = "Data type of weights and arithmetic; auto takes that of config.json, unset means auto on GPUs and fp32 on CPU", .flag = "--dtype", .words = "auto fp32 bf16 fp16 float32=fp32 bfloat16=bf16 float16=fp16 int8~auto", .complaint = "Invalid data type: "},
  {.key = "option.trust_remote_code", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "Accepted for the sake of existing files", .variables = "HF_MODEL_TRUST_REMOTE_CODE", .notice = "Python code of a model cannot run in Troupe: a model that needs it fails to load"},
  {.key = "option.low_cpu_mem_usage", .level = scope::model, .type = kind::boolean, .fallback = "true", .help = "Accepted for the sake of existing files; weights are always mapped and loaded piece by piece"},
  {.key = "option.mpi_mode", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "Accepted for the sake of existing files; no effect"},
  {.key = "option.model_loading_timeout", .level = scope::model, .type = kind::seconds, .fallback = "240", .help = "Longest time that loading may take", .flag = "--model-loading-timeout", .variables = "MODEL_LOADING_TIMEOUT", .least = 0.001, .most = 86400, .overrides = "SAGEMAKER_STARTUP_TIMEOUT"},
  {.key = "option.parallel_loading", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "Load the copies of a model at once, not one after the other"},
  {.key = "option.quantize", .level = scope::model, .type = kind::choice, .fallback = "", .help = "Fewer bits for the weights of the layers, as in bitsandbytes: LLM.int8() with outliers from 6.0, or fp4 in blocks of 64; the logits' weight and embeddings stay as they are", .flag = "--quantize", .variables = "HF_MODEL_QUANTIZE", .words = "bitsandbytes8 bitsandbytes4"},
  {.key = "option.load_in_8bit", .level = scope::model, .type = kind::boolean, .fallback = "", .help = "Old form of option.quantize=bitsandbytes8", .notice = "deprecated: set option.quantize=bitsandbytes8"},
  {.key = "option.load_in_4bit", .level = scope::model, .type = kind::boolean, .fallback = "", .help = "Old form of option.quantize=bitsandbytes4; wins over load_in_8bit", .notice = "deprecated: set option.quantize=bitsandbytes4"},
  {.key = "option.disable_flash_attn", .level = scope::model, .type = kind::boolean, .fallback = "true", .help = "Accepted for the sake of existing files; the backend picks its attention kernel itself"},

  // How it is run.
  {.key = "option.rolling_batch", .level = scope::model, .type = kind::choice, .fallback = "auto", .help = "scheduler batches continuously; disable runs batch_size calls after another, in the form of a transformers pipeline; auto takes scheduler for text generation", .flag = "--rolling-batch", .words = "auto scheduler disable lmi-dist~scheduler vllm~scheduler trtllm~scheduler tnx~scheduler"},
  {.key = "option.max_rolling_batch_size", .level = scope::model, .type = kind::integer, .fallback = "32", .help = "Sequences that are generated at once; further ones wait", .flag = "--max-rolling-batch-size", .variables = "MAX_BATCH_SIZE", .least = 1, .most = 65536},
  {.key = "option.max_step_tokens", .level = scope::model, .type = kind::integer, .fallback = "auto", .help = "Tokens that one step may process: prompts enter in chunks of what running sequences leave; auto: 512 on CPU, 4096 on GPUs", .flag = "--max-step-tokens", .words = "auto=0", .least = 1, .most = 1048576},
  {.key = "option.schedule_ahead", .level = scope::model, .type = kind::boolean, .fallback = "", .help = "Issue the next step before the tokens of the last are known, so that the device never waits for the host; unset: true on a single GPU, false on the CPU, where it gains nothing", .flag = "--schedule-ahead"},
  {.key = "option.steps_in_flight", .level = scope::model, .type = kind::integer, .fallback = "auto", .help = "Steps that the scheduler keeps in flight; auto: one per shard, so that every device computes at once, and one more with schedule_ahead; 1 is naive layer sharding, to compare with", .flag = "--steps-in-flight", .words = "auto=0", .least = 1, .most = 64},
  {.key = "option.max_model_len", .level = scope::model, .type = kind::integer, .fallback = "", .help = "Upper limit of the context, prompt and answer together; by default the model's", .flag = "--max-model-len", .least = 1, .most = 2147483647},
  {.key = "option.tensor_parallel_degree", .level = scope::model, .type = kind::integer, .fallback = "", .help = "Shards that the layers of a copy are spread over, one GPU each; each so many GPUs get a copy (maxWorkers); unset: one GPU where it holds the model, else all of them, and 1 on the CPU; max: every GPU, or one per core", .flag = "--tensor-parallel-degree", .variables = "TENSOR_PARALLEL_DEGREE SM_NUM_GPUS", .words = "max=-1", .least = 1, .most = 1024},
  {.key = "option.pipeline_parallel_degree", .level = scope::model, .type = kind::integer, .fallback = "1", .help = "Accepted for the sake of existing files: layers are spread by tensor_parallel_degree", .variables = "PIPELINE_PARALLEL_DEGREE", .least = 1, .most = 1024, .notice = without_effect},
  {.key = "option.cluster_size", .level = scope::model, .type = kind::integer, .fallback = "1", .help = "Accepted for the sake of existing files", .least = 1, .most = 1024, .notice = without_effect},
  {.key = "option.device_map", .level = scope::model, .type = kind::choice, .fallback = "", .help = "How layers go onto devices; beats load_on_devices: balanced splits evenly, sequential takes as few GPUs as hold the model", .flag = "--device-map", .words = "auto balanced balanced_low_0=balanced sequential cpu cuda cuda:0 cuda:1 cuda:2 cuda:3 cuda:4 cuda:5 cuda:6 cuda:7"},
  {.key = "option.device_id", .level = scope::model, .type = kind::integer, .fallback = "-1", .help = "Run on this GPU alone; -1: as load_on_devices says", .least = -1, .most = 1023},
  {.key = "option.gpu_memory_utilization", .level = scope::model, .type = kind::number, .fallback = "0.9", .help = "Share of each GPU's memory that may be in use; what weights leave of it holds keys and values", .flag = "--gpu-memory-utilization", .least = 0.05, .most = 1},
  {.key = "option.cuda_graphs", .level = scope::model, .type = kind::boolean, .fallback = "true", .help = "Record the decode steps of each batch size on the GPU and replay them", .flag = "--cuda-graphs"},
  {.key = "option.batch_invariant", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "A request's tokens on a GPU do not depend on what else is in the batch; slower", .flag = "--batch-invariant"},
  {.key = "option.load_format", .level = scope::model, .type = kind::choice, .fallback = "auto", .help = "dummy: random weights of the shapes in config.json, to measure without a download", .flag = "--load-format", .words = "auto safetensors=auto dummy"},
  {.key = "option.dummy_step_ms", .level = scope::model, .type = kind::number, .fallback = "0", .help = "Milliseconds that each step of the dummy model takes, as a device would, to measure what the server itself costs", .flag = "--dummy-step-ms", .most = 60000},
  {.key = "option.cpu_threads", .level = scope::model, .type = kind::integer, .fallback = "auto", .help = "Threads that compute, shared by the shards of a model; auto: one per core", .flag = "--cpu-threads", .variables = "OMP_NUM_THREADS", .words = "auto=0", .least = 1, .most = 1024},
  {.key = "option.kv_cache_bytes", .level = scope::model, .type = kind::bytes, .fallback = "auto", .help = "Memory for keys and values; auto: what weights leave of a GPU; on CPU a quarter of what is free, and no more than the batch can use", .flag = "--kv-cache-bytes", .words = "auto=0", .least = 1},
  {.key = "option.kv_host_bytes", .level = scope::model, .type = kind::bytes, .fallback = "auto", .help = "Host memory where preempted sequences leave keys and values when that is faster than computing them again; auto: none on CPU; with GPUs as much as theirs, and no more than a quarter of what is free", .flag = "--kv-host-bytes", .words = "auto=-1"},
  {.key = "option.kv_block_tokens", .level = scope::model, .type = kind::integer, .fallback = "16", .help = "Tokens in one block of the key/value cache", .flag = "--kv-block-tokens", .words = "8=8 16=16 32=32", .listed = true},
  {.key = "option.chat_template", .level = scope::model, .type = kind::text, .fallback = "", .help = "File with the chat template (Jinja) in place of the model's own; a relative path is looked for in the model folder, then in the working directory", .flag = "--chat-template"},
  {.key = "option.prefix_cache", .level = scope::model, .type = kind::boolean, .fallback = "true", .help = "Reuse keys and values of prompts that begin alike", .flag = "--prefix-cache"},
  {.key = "option.predict_timeout", .level = scope::model, .type = kind::seconds, .fallback = "120", .help = "Longest wait for a batch slot; with rolling_batch=disable the longest time of a whole call", .flag = "--predict-timeout", .variables = "PREDICT_TIMEOUT", .least = 0.001, .most = 86400, .lenient = true, .overrides = "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"},

  // What it answers.
  {.key = "option.output_formatter", .level = scope::model, .type = kind::choice, .fallback = "", .help = "Form of answers on LMI routes; unset: json, or jsonlines when streamed", .words = "json jsonlines sse json_chat jsonlines_chat sse_chat", .lenient = true},
  {.key = "option.tgi_compat", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "Answer LMI routes in the form of Text Generation Inference"},
  {.key = "option.openai_finish_reasons", .level = scope::model, .type = kind::boolean, .fallback = "", .help = "Finish reasons in OpenAI's words (true) or LMI's (false) on every route; unset: by route"},
  {.key = "option.decoding_strategy", .level = scope::model, .type = kind::choice, .fallback = "greedy", .help = "How tokens are chosen when a request doesn't say", .words = "greedy sample sampling=sample contrastive"},
  {.key = "option.contrastive_hidden", .level = scope::model, .type = kind::choice, .fallback = "last", .help = "What contrastive search compares: the last layer's hidden states, or the embeddings (one shard only)", .words = "last embedding"},
  {.key = "option.enable_streaming", .level = scope::model, .type = kind::choice, .fallback = "false", .help = "LMI's old way of streaming without rolling batch: a line with a piece of each prompt per token; huggingface: the prompts first", .words = "false true huggingface"},
  {.key = "option.max_sparsity", .level = scope::model, .type = kind::number, .fallback = "0.33", .help = "Share of padding in a batch above which it is split; nothing is padded here", .least = 0, .most = 1, .notice = without_effect},
  {.key = "option.max_splits", .level = scope::model, .type = kind::integer, .fallback = "3", .help = "Parts that such a batch is split into at most", .least = 1, .most = 65536, .notice = without_effect},
  {.key = "option.max_output_size", .level = scope::model, .type = kind::bytes, .fallback = "67108864", .help = "Largest answer", .least = 1, .notice = without_effect},
  {.key = "option.stop_sequence", .level = scope::model, .type = kind::list, .fallback = "", .help = "Texts at which every generation stops, beside those of the request"},

  // What is measured.
  {.key = "log_request_metric", .level = scope::model, .type = kind::boolean, .fallback = "false", .help = "Log the times of every so many requests"},
  {.key = "metrics_aggregation", .level = scope::model, .type = kind::integer, .fallback = "1000", .help = "How many requests that is", .least = 1, .most = 1000000000},
    // clang-format on
});

/// Place of `key` in the table, or its size when there is none.
constexpr size_t index_of(std::string_view key) {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (option_table[i].key == key)
      return i;
  return option_table.size();
}

/// Names an option of one of the given kinds; any kind when none is given. Made from a literal at
/// compile time, so that a misspelt key or the wrong getter does not compile.
template <kind... Kinds>
class key {
public:
  consteval key(const char* name) : index_{index_of(name)} { // NOLINT: meant to convert
    if (index_ == option_table.size())
      throw "no such option in config/option_table.hpp";
    if (sizeof...(Kinds) > 0 && ((option_table[index_].type != Kinds) && ...))
      throw "this option is of another kind";
  }

  constexpr size_t index() const { return index_; }

private:
  size_t index_;
};

} // namespace troupe::config

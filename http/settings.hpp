#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "troupe/http/api_keys.hpp"
#include "troupe/http/error_rates.hpp"

/// What the front end can be told. Plain values; `runtime` fills them from the options.
namespace troupe::http {

/// Bytes of a GPU that somebody uses.
struct device_memory {
  uint32_t ordinal = 0;
  uint64_t used_bytes = 0;
};

/// How the text-generation routes read and answer (contract http.md §4, §5).
struct dialect_settings {
  std::string default_model;    ///< Shown as "model" where the request names none.
  std::string output_formatter; ///< option.output_formatter; empty = by `stream`.
  bool tgi_compat = false;      ///< option.tgi_compat
  /// option.decoding_strategy: greedy, sample or contrastive.
  std::string decoding_strategy = "greedy";
  bool contrastive_embeddings = false;     ///< option.contrastive_hidden is embedding.
  std::vector<std::string> stop_sequences; ///< option.stop_sequence, added to every request's.
  /// option.openai_finish_reasons: forces OpenAI's words (true) or LMI's (false) on every chat
  /// route; unset = by route.
  std::optional<bool> openai_finish_reasons;
  /// option.rolling_batch is disable: what is not a chat speaks as a transformers pipeline does.
  bool pipeline = false;
  uint32_t call_batch = 1;       ///< batch_size; pipeline mode only. Chats need 1.
  std::string generation_config; ///< The model's generation_config.json; pipeline mode only.
  enum class streaming : uint8_t { off, pieces, with_prompt };
  streaming legacy_streaming = streaming::off; ///< option.enable_streaming; pipeline mode only.
  bool trust_request_template = false;         ///< Requests may bring a chat_template of their own.

  uint32_t slot_timeout_ms = 120'000; ///< option.predict_timeout; 0 = none.
  /// A whole request's time; 0 = none. Without rolling batch it is option.predict_timeout.
  uint32_t deadline_ms = 0;
  uint32_t read_timeout_ms = 120'000; ///< chunked_read_timeout: for a client that does not read.

  int bad_request_status = 400;  ///< bad_request_http_code
  int wlm_error_status = 503;    ///< wlm_error_http_code: model not ready, call took too long.
  int throttle_status = 503;     ///< throttle_error_http_code: queue full (LMI routes).
  int server_error_status = 500; ///< server_error_http_code

  bool operator==(const dialect_settings&) const = default;
};

/// Where a listener listens.
struct listen_address {
  std::string host = "127.0.0.1"; ///< Host name or literal address; ignored with `unix_path`.
  uint16_t port = 8080;
  std::string unix_path;
  bool tls = false;
};

struct server_settings {
  std::string address = "127.0.0.1"; ///< Host name or literal address; ignored with `unix_path`.
  uint16_t port = 8080;              ///< 0 = any free one; `server::port` tells which.
  std::string unix_path;             ///< Listen on this socket file instead.
  bool tls = false;                  ///< Serve https.
  std::string certificate_file; ///< PEM chain; empty = a self-signed certificate made at start.
  std::string private_key_file; ///< PEM key that belongs to it.
  /// Set: the management API is served there, and only there; otherwise beside everything else.
  std::optional<listen_address> management;
  std::string keystore_file; ///< PKCS12 with certificate and key, in place of the PEM files.
  std::string keystore_password;
  uint32_t threads = 0; ///< I/O threads (number_of_netty_threads); 0 = by cores.

  size_t max_header_bytes = 32 * 1024;     ///< Also bounds pipelined bytes kept aside.
  uint64_t max_request_size = 64ull << 20; ///< Larger bodies get 413.
  size_t inline_parse_bytes = 1 << 20;     ///< Larger bodies are parsed off the I/O threads.
  uint32_t max_connections = 0;            ///< 0 = by the file limit.
  std::chrono::milliseconds header_timeout{
      30'000}; ///< From a request's first byte to its header's end.
  std::chrono::milliseconds body_timeout{60'000}; ///< Without a byte of the body.
  std::chrono::milliseconds idle_timeout{75'000}; ///< Between requests.

  std::string request_id_header = "x-request-id"; ///< request_id_header_key
  std::string model_url_pattern;                  ///< Of model URLs in requests; empty: none.
  bool allow_request_handler = false;             ///< ALLOW_REQUEST_HANDLER_OVERRIDE
  std::string cors_allowed_origin;
  std::string cors_allowed_methods;
  std::string cors_allowed_headers;

  std::vector<api_key> api_keys; ///< Empty: nobody needs one.

  size_t async_capacity = 1000; ///< Asynchronous results kept (memory_cache_capacity).
  size_t async_batch = 1;       ///< Stream items of one that become visible together (cache_batch).

  bool allow_multi_status = false;       ///< /ping answers 207 while loading.
  error_rate_limits error_rates;         ///< error_rate_*
  bool fail_ping_when_unhealthy = false; ///< SAGEMAKER_HEALTH_CHECK_OVERRIDE
  bool keep_ready = false;               ///< SERVING_HEALTH_CHECK_OVERRIDE
  bool metrics_enabled = true;           ///< SERVING_PROMETHEUS
  /// What is in use of each GPU's memory; asks the driver, so it may block. Null: there are none.
  std::function<std::vector<device_memory>()> ask_device_memory;
  std::string version; ///< Shown by DJLServingStart.

  dialect_settings dialect;
};

} // namespace troupe::http

#pragma once

#include <cstring>
#include <vector>

#include <caf/meta/load_callback.hpp>
#include <caf/meta/save_callback.hpp>
#include <caf/meta/type_name.hpp>

/// How the messages cross a border. Included by actors/interfaces.hpp, which declares the types.
namespace troupe {

#define TROUPE_INSPECT(type, ...)                                                                  \
  template <class Inspector>                                                                       \
  typename Inspector::result_type inspect(Inspector& f, type& x) {                                 \
    return f(caf::meta::type_name(#type), __VA_ARGS__);                                            \
  }

TROUPE_INSPECT(token_value, x.token, x.value)
TROUPE_INSPECT(sampling_params, x.sample, x.seed, x.sequence_index, x.temperature, x.top_k, x.top_p,
               x.min_p, x.typical_p, x.epsilon_cutoff, x.eta_cutoff, x.repetition_penalty,
               x.encoder_repetition_penalty, x.frequency_penalty, x.presence_penalty,
               x.no_repeat_ngram_size, x.min_new_tokens, x.min_length, x.eos_tokens, x.logit_bias,
               x.bad_words, x.suppress_tokens, x.encoder_no_repeat_ngram_size,
               x.begin_suppress_tokens, x.forced_bos_token, x.forced_eos_tokens, x.max_length,
               x.decay_start, x.decay_factor, x.renormalize)
TROUPE_INSPECT(sequence_start, x.sequence, x.prompt_length, x.history, x.sampling, x.rope_base)
TROUPE_INSPECT(row_wants, x.sample, x.prompt_logprobs, x.hidden_state, x.all_hidden, x.embeddings,
               x.top_n, x.candidates, x.scores)
TROUPE_INSPECT(step_row, x.sequence, x.position, x.first_token, x.token_count, x.first_block,
               x.block_count, x.wants)
TROUPE_INSPECT(block_copy, x.from, x.to)
TROUPE_INSPECT(block_swap, x.device, x.host)
TROUPE_INSPECT(step, x.epoch, x.id, x.rows, x.tokens, x.blocks, x.starts, x.copies, x.swaps_in,
               x.swaps_out, x.dropped)
TROUPE_INSPECT(row_result, x.sequence, x.token, x.logprob, x.top, x.prompt, x.prompt_top,
               x.candidates, x.candidate_logprobs, x.candidate_keys, x.hidden, x.fault,
               x.fault_text)
TROUPE_INSPECT(step_result, x.epoch, x.id, x.rows, x.compute_ns, x.device_ns, x.turnaround_ns)
TROUPE_INSPECT(search_params, x.kind, x.lanes, x.returned, x.length_penalty, x.stopping,
               x.penalty_alpha, x.groups, x.diversity_penalty, x.embeddings)
/// Only the absence of one can be written.
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, search_watch_ref& x) {
  auto check = [&]() -> caf::error {
    return x.shared ? caf::make_error(ec::internal, std::string{"a search whose request watches it "
                                                                "cannot leave the process"})
                    : caf::error{};
  };
  return f(caf::meta::type_name("search_watch_ref"), caf::meta::save_callback(check));
}

TROUPE_INSPECT(new_sequence, x.prompt, x.generated, x.max_new_tokens, x.sampling, x.search, x.watch,
               x.stop_tokens, x.wants, x.priority, x.turn, x.cache_salt, x.rope_base,
               x.slot_timeout_ms, x.needs_host)
TROUPE_INSPECT(token_batch, x.sequence, x.tokens, x.cached_tokens, x.waited_us, x.output)
TROUPE_INSPECT(scheduler_load, x.waiting, x.running, x.parked, x.steps_in_flight, x.blocks_total,
               x.blocks_used, x.blocks_cached, x.blocks_shared)
TROUPE_INSPECT(prompt, x.kind, x.text, x.tokens, x.cached_prefix, x.add_special_tokens,
               x.add_generation_prompt, x.chat_template)
TROUPE_INSPECT(encode_job, x.input, x.truncate, x.context)
TROUPE_INSPECT(encoded_prompt, x.tokens, x.text)
TROUPE_INSPECT(generation_params, x.max_new_tokens, x.sampling, x.search, x.n, x.best_of, x.stop,
               x.stop_tokens, x.ignore_eos, x.include_stop, x.skip_special_tokens, x.top_n,
               x.prompt_logprobs, x.prompt_top_n, x.truncate, x.token_bytes, x.stream, x.max_length,
               x.max_time_ms, x.eos_tokens)
TROUPE_INSPECT(generation_request, x.id, x.model, x.version, x.binding, x.input, x.params,
               x.priority, x.turn, x.traceparent, x.slot_timeout_ms, x.deadline_ms,
               x.read_timeout_ms)
TROUPE_INSPECT(token_text, x.id, x.text, x.bytes, x.logprob, x.has_logprob, x.special)
TROUPE_INSPECT(token_event, x.choice, x.token, x.top)
TROUPE_INSPECT(prompt_event, x.token_count, x.cached_tokens, x.tokens, x.top)
TROUPE_INSPECT(choice_event, x.choice, x.reason, x.tail, x.generated_text, x.generated_tokens,
               x.cumulative_logprob)
TROUPE_INSPECT(event_batch, x.prompt, x.tokens, x.ends, x.complete, x.failure, x.weight)
TROUPE_INSPECT(tokenize_request, x.model, x.input, x.version)
TROUPE_INSPECT(tokenize_answer, x.tokens, x.max_model_len)
TROUPE_INSPECT(detokenize_request, x.model, x.tokens, x.version)
TROUPE_INSPECT(registration, x.version, x.url, x.at_startup, x.batch_size, x.max_batch_delay_ms,
               x.max_idle_seconds, x.min_workers, x.max_workers, x.gpu_min_workers,
               x.gpu_max_workers, x.counted_together, x.on_devices, x.parallel_loading,
               x.sum_up_every, x.reserved_bytes, x.required_bytes)
TROUPE_INSPECT(device_workers, x.device, x.min, x.max)
TROUPE_INSPECT(worker_status, x.id, x.since_ms, x.state)
TROUPE_INSPECT(worker_group, x.device, x.devices, x.min_workers, x.max_workers, x.workers)
TROUPE_INSPECT(worker_scaling, x.model, x.version, x.min, x.max, x.devices)
TROUPE_INSPECT(replica_report, x.replica, x.phase, x.scheduler, x.bytes_done, x.bytes_total, x.who,
               x.problem)
TROUPE_INSPECT(model_route, x.name, x.version, x.actor, x.ready, x.at_startup, x.refusal)
TROUPE_INSPECT(model_spec, x.name, x.load, x.queue_limit, x.tokenizer_threads, x.retry_threshold,
               x.loading_timeout_ms, x.trust_request_template, x.chat_template, x.prefix_cache,
               x.registered, x.call_batch, x.call_delay_ms)
TROUPE_INSPECT(model_status, x.name, x.folder, x.architecture, x.state, x.problem, x.context,
               x.vocabulary, x.queued, x.running, x.load_progress, x.since_unix,
               x.has_chat_template, x.registered, x.queue_limit, x.groups)

namespace models {

TROUPE_INSPECT(load_options, x.folder, x.dummy, x.dtype, x.quantized, x.shards, x.cpu_threads,
               x.max_model_len, x.kv_block_tokens, x.kv_cache_bytes, x.max_sequences,
               x.max_step_tokens, x.random_seed, x.schedule_ahead, x.devices, x.device_map,
               x.gpu_memory_utilization, x.cuda_graphs, x.batch_invariant, x.random_weights,
               x.steps_in_flight, x.kv_host_bytes, x.dummy_step_us, x.device_required_bytes,
               x.device_reserved_bytes)

/// Between processes: dtype, shape and raw bytes. Within one, CAF copies the handle and never asks.
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, activation& x) {
  auto type = x.type();
  auto rows = x.rows();
  auto columns = x.columns();
  std::vector<char> bytes;
  if (!x.empty() && Inspector::reads_state) {
    const auto* first = reinterpret_cast<const char*>(x.data()->host_bytes());
    bytes.assign(first, first + x.byte_size());
  }
  auto take = [&]() -> caf::error {
    if (bytes.empty()) {
      x = activation{};
      return caf::none;
    }
    // Divided, not multiplied: a product of foreign numbers may wrap around to the right size.
    const auto size = size_of(type);
    const auto elements = size == 0 ? 0 : bytes.size() / size;
    const bool fits = size > 0 && rows > 0 && columns > 0 && elements * size == bytes.size() &&
                      elements % static_cast<uint64_t>(rows) == 0 &&
                      elements / static_cast<uint64_t>(rows) == static_cast<uint64_t>(columns);
    if (!fits)
      return caf::make_error(ec::internal, std::string{"activation with a size unlike its shape"});
    std::vector<std::byte> raw(bytes.size());
    std::memcpy(raw.data(), bytes.data(), bytes.size());
    x = activation::from_bytes(type, rows, columns, std::move(raw));
    return caf::none;
  };
  return f(caf::meta::type_name("activation"), type, rows, columns, bytes,
           caf::meta::load_callback(take));
}

} // namespace models

#undef TROUPE_INSPECT

} // namespace troupe

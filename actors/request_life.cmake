# A request's life: engine, supervisor, model, tokenizers, request; and what they are made of.
troupe_library(troupe_actors
  SOURCES answer_watch.cpp choice.cpp default_factories.cpp engine.cpp generation.cpp memory_ledger.cpp model.cpp
          model_copies.cpp model_guests.cpp model_loading.cpp model_losses.cpp model_status.cpp published_engine.cpp
          registration.cpp replica.cpp request.cpp request_answer.cpp request_plan.cpp request_sequences.cpp
          request_trace.cpp stop_matcher.cpp supervisor.cpp supervisor_leaving.cpp
          supervisor_scaling.cpp supervisor_status.cpp text_assembler.cpp tokenizer.cpp
  LINKS troupe_step_loop troupe_telemetry troupe_tokenizer troupe_models)

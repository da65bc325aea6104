# A request's life: engine, supervisor, model, tokenizers, request; and what they are made of.
troupe_library(troupe_actors
  SOURCES answer_watch.cpp choice.cpp default_factories.cpp engine.cpp generation.cpp memory_ledger.cpp model.cpp
          model_loading.cpp model_workers.cpp published_engine.cpp request.cpp request_plan.cpp request_trace.cpp
          stop_matcher.cpp supervisor.cpp
          text_assembler.cpp tokenizer.cpp
  LINKS troupe_step_loop troupe_telemetry troupe_tokenizer troupe_models)

#pragma once

#include <string>

#include "troupe/models/tokenizer/conversion.hpp"
#include "troupe/models/tokenizer/conversion_parts.hpp"

/// One function per class of tokenizers in transformers.
namespace troupe::tokenizing {

/// vocab.json + merges.txt, byte-level BPE.
caf::expected<converted> convert_gpt2(older_settings settings);
caf::expected<converted> convert_roberta(older_settings settings);
caf::expected<converted> convert_qwen2(older_settings settings);

/// A SentencePiece model: BPE with byte fallback, and Unigram.
caf::expected<converted> convert_llama(older_settings settings);
caf::expected<converted> convert_code_llama(older_settings settings);
caf::expected<converted> convert_t5(older_settings settings);
caf::expected<converted> convert_xlm_roberta(older_settings settings);

/// vocab.txt, WordPiece.
caf::expected<converted> convert_bert(older_settings settings);

} // namespace troupe::tokenizing

#pragma once

#include <string_view>

#include "troupe/models/tokenizer/chat_template.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// A tokenizer that needs no file, for the `dummy` model and for tests: id b is the byte b
/// (0 to 255), followed by the special tokens <|im_start|> 256, <|im_end|> 257 (eos, pad) and
/// <|endoftext|> 258 (bos, unk). Encoding adds no special tokens. Made once per process.
tokenizer_ptr byte_tokenizer();

/// A ChatML template for it, made once per process.
chat_template_ptr byte_chat_template();

/// Its source; it renders "<|im_start|>role\ncontent<|im_end|>\n" per message.
std::string_view byte_chat_template_source();

} // namespace troupe

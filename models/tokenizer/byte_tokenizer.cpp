#include "troupe/models/tokenizer/byte_tokenizer.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>

namespace troupe {

namespace {

constexpr std::array<std::string_view, 3> specials = {"<|im_start|>", "<|im_end|>",
                                                      "<|endoftext|>"};

/// The character that byte-level vocabularies write for a byte, as a JSON escape.
/// Source: GPT-2, encoder.py, bytes_to_unicode.
std::array<std::string, 256> byte_escapes() {
  std::array<std::string, 256> out;
  unsigned next = 256;
  for (unsigned b = 0; b < 256; ++b) {
    bool plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    char text[8];
    std::snprintf(text, sizeof text, "\\u%04x", plain ? b : next++);
    out[b] = text;
  }
  return out;
}

void append(std::string& out, std::initializer_list<std::string_view> parts) {
  for (auto part : parts)
    out.append(part);
}

std::string tokenizer_json() {
  std::string out = R"({"version":"1.0","added_tokens":[)";
  unsigned id = 256;
  for (auto special : specials)
    append(out, {id > 256 ? "," : "", R"({"id":)", std::to_string(id++),
                 R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)",
                 R"("special":true,"content":")", special, R"("})"});
  out += R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
         R"("trim_offsets":false,"use_regex":true},"post_processor":null,)"
         R"("decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,)"
         R"("use_regex":true},"model":{"type":"BPE","vocab":{)";
  id = 0;
  for (auto& escape : byte_escapes()) {
    append(out, {id ? "," : "", "\"", escape, "\":", std::to_string(id)});
    ++id;
  }
  return out + R"(},"merges":[]}})";
}

constexpr std::string_view config_json =
    R"({"bos_token":"<|endoftext|>","eos_token":"<|im_end|>","pad_token":"<|im_end|>",)"
    R"("unk_token":"<|endoftext|>","additional_special_tokens":["<|im_start|>","<|im_end|>"]})";

/// Built from constants: a failure is a broken build, which no caller can mend.
template <class T>
T made(caf::expected<T> result) {
  if (!result) {
    std::fprintf(stderr, "troupe: the built-in tokenizer does not load: %s\n",
                 text_of(result.error()).c_str());
    std::abort();
  }
  return std::move(*result);
}

} // namespace

tokenizer_ptr byte_tokenizer() {
  static const tokenizer_ptr shared = made(tokenizer::parse(tokenizer_json(), config_json));
  return shared;
}

chat_template_ptr byte_chat_template() {
  static const chat_template_ptr shared =
      made(chat_template::compile(byte_chat_template_source(), *byte_tokenizer()));
  return shared;
}

std::string_view byte_chat_template_source() {
  return "{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
}

} // namespace troupe

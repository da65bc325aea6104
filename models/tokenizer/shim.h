#pragma once

#include <stddef.h>
#include <stdint.h>

/* C interface of the Rust library in shim/: Hugging Face tokenizers and Jinja chat templates.
 *
 * Functions that can fail return 0, or a negative number with a message in *err (to be freed).
 * Nothing unwinds or throws out of here. Strings are pointer and length, may hold NULs, and are
 * checked to be UTF-8. tt_tokenizer and tt_template are immutable and shared by threads.
 */
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* data;
  size_t size;
} tt_slice; /* borrowed */
typedef struct {
  char* data;
  size_t size;
} tt_string; /* owned: tt_string_free */
typedef struct tt_tokenizer tt_tokenizer;
typedef struct tt_encoding tt_encoding;
typedef struct tt_template tt_template;

enum {                   /* failures */
       TT_FAILED = -1,   /* tokenizers or the template said no */
       TT_BAD_INPUT = -2 /* the caller's text or context is not what it has to be */
};

void tt_string_free(tt_string*);

/* `json` is a tokenizer.json; its truncation and padding are dropped. `added` is a JSON array of
 * added tokens (content, single_word, lstrip, rstrip, normalized, special) that the vocabulary may
 * lack; a known one takes over the flags given here. With `if_absent` a token counts only if
 * nothing else adds it. */
int tt_tokenizer_parse(tt_slice json, tt_slice added, tt_tokenizer**, tt_string* err);
void tt_tokenizer_free(tt_tokenizer*);

enum { TT_HAS_TOKEN = 1, TT_SPECIAL = 2, TT_BYTE_TOKEN = 4 };
enum { TT_BYTE_LEVEL = 0, TT_BYTE_FALLBACK = 1, TT_GENERAL = 2 };

/* How many tokens a byte of a text accounts for at least, in 1 / TT_WEIGHT_UNIT. All 0: no bound.
 */
enum { TT_WEIGHT_UNIT = 1 << 20 };
typedef struct {
  uint32_t kept[256];
  uint32_t changed[256]; /* if `normalizes`, for all bytes but ASCII before ASCII */
  uint8_t normalizes;
} tt_weights;

/* What each id stands for; lives as long as the tokenizer. */
typedef struct {
  size_t limit;           /* highest id + 1 */
  size_t tokens;          /* ids that have a token */
  const char* bytes;      /* all tokens' bytes end to end */
  const uint32_t* starts; /* [limit + 1] into bytes */
  const uint8_t* flags;   /* [limit] TT_HAS_TOKEN | ... */
  uint32_t max_bytes;     /* of the longest token */
  tt_weights weights;
  uint8_t decoding;     /* TT_BYTE_LEVEL ... */
  uint8_t strips_first; /* byte fallback: one leading space is dropped */
} tt_tables;
void tt_tokenizer_tables(const tt_tokenizer*, tt_tables*);

/* 1 and the id or the text, or 0. */
int tt_token_to_id(const tt_tokenizer*, tt_slice, uint32_t*);
int tt_id_to_token(const tt_tokenizer*, uint32_t, tt_string*);

enum { TT_ADD_SPECIAL = 1, TT_DETAILS = 2, TT_BYTE_OFFSETS = 4, TT_CHAR_OFFSETS = 8 };
/* `pair` may be null. Without TT_DETAILS the encoding has ids only. */
int tt_encode(const tt_tokenizer*, tt_slice text, const tt_slice* pair, uint32_t flags,
              tt_encoding**, tt_string* err);
void tt_encoding_free(tt_encoding*);
/* [size] each, null where not asked for; offsets hold 2 * size. */
typedef struct {
  size_t size;
  const uint32_t* ids;
  const uint32_t* type_ids;
  const uint32_t* special;
  const int32_t* words;     /* -1: none */
  const int32_t* sequences; /* -1: none */
  const uint32_t* offsets;
} tt_encoding_view;
void tt_encoding_look(const tt_encoding*, tt_encoding_view*);

int tt_decode(const tt_tokenizer*, const uint32_t* ids, size_t n, int skip_special, tt_string*,
              tt_string* err);

/* `defaults` is a JSON object of variables that a context may override (the special tokens). */
int tt_template_compile(tt_slice source, tt_slice defaults, tt_template**, tt_string* err);
void tt_template_free(tt_template*);
/* `now`: seconds since 1970 for strftime_now; negative: the clock. */
int tt_template_render(const tt_template*, tt_slice json_context, int64_t now, tt_string*,
                       tt_string* err);

#ifdef __cplusplus
}
#endif

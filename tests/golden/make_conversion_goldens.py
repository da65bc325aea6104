"""Makes tests/golden/conversion: small tokenizers in their older forms (vocab.json + merges.txt, a
SentencePiece model, vocab.txt) and what transformers makes of the hard strings with them.

    python tests/golden/make_conversion_goldens.py [--train] [NAME...]

--train makes the folders anew (they are committed); without it only the expectations are written.
Needs transformers 4.57 and sentencepiece. The folders "gpt2", "roberta", "qwen2" and "bert" take
their vocabularies from tests/golden/tokenizer; SentencePiece trains the others.

expected.txt has one line per string: number of ids, then two hashes as in make_tokenizer_goldens.py:
the ids without special tokens, and those with special tokens, alone and with the next string but six
as its pair, followed by the decoded texts. Then come the decoded texts of random lists of ids. Every
EVERY-th string takes part.
"""
import argparse
import io
import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece
import transformers
from transformers import AutoTokenizer

import hard_strings
from make_tokenizer_goldens import OUT as TOKENIZERS
from make_tokenizer_goldens import corpus, fnv, fnv_text, random_ids

OUT = pathlib.Path(__file__).resolve().parent / "conversion"
EVERY = 5
VOCABULARY = 900


def write(folder, name, value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    (folder / name).write_text(text, encoding="utf-8", newline="")


def byte_level(folder, source, config):
    model = json.loads((TOKENIZERS / source / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    write(folder, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    write(folder, "tokenizer_config.json", config)
    return len(model["vocab"])


def gpt2(folder):
    """Everything by default; the end of text is no token of the vocabulary."""
    byte_level(folder, "llama3", {"tokenizer_class": "GPT2Tokenizer"})


def gpt2_bos(folder):
    """As OPT: a begin of text, and tokens in added_tokens.json and special_tokens_map.json."""
    size = byte_level(folder, "roberta", {"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": True,
                                          "add_prefix_space": True})
    write(folder, "added_tokens.json", {"jinja": size, "<extra>": size + 1})
    write(folder, "special_tokens_map.json", {
        "bos_token": {"content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True},
        "eos_token": "</s>", "unk_token": "<unk>", "additional_special_tokens": ["<extra>"]})


def roberta(folder):
    byte_level(folder, "roberta", {"tokenizer_class": "RobertaTokenizer"})


def qwen2(folder):
    """As the published folders: null roles, and a list of added tokens with their ids."""
    size = byte_level(folder, "qwen2", {})
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    write(folder, "tokenizer_config.json", {
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": None, "add_bos_token": False, "add_prefix_space": False,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {str(size + i): {"content": n, **flags} for i, n in enumerate(names)} |
                                {str(size + 3): {"content": "<tool_call>", **flags, "special": False}}})


def train(folder, name, **options):
    """SentencePiece wants sentences without line ends; the hard strings lose theirs."""
    lines = [line for text in corpus() for line in text.splitlines() if line.strip()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, num_threads=1,
                                             minloglevel=2, hard_vocab_limit=False, **options)
    (folder / name).write_bytes(model.getvalue())


def llama(folder):
    """Llama 2: prefix spaces as of old."""
    train(folder, "tokenizer.model", model_type="bpe", vocab_size=VOCABULARY + 256, byte_fallback=True,
          character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
          split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=["<tool>", "\t"])
    write(folder, "tokenizer_config.json", {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": True,
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False,
                      "rstrip": False, "single_word": False},
        "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False,
                      "rstrip": False, "single_word": False},
        "unk_token": "<unk>", "pad_token": None, "model_max_length": 4096})


def llama_new(folder):
    """The same model without `legacy`, with both ends and a padding token of its own."""
    (folder / "tokenizer.model").write_bytes((OUT / "llama" / "tokenizer.model").read_bytes())
    write(folder, "tokenizer_config.json", {
        "tokenizer_class": "LlamaTokenizerFast", "legacy": False, "add_eos_token": True, "pad_token": "<pad>"})


def llama_plain(folder):
    """The same model, which only config.json tells of, without prefix spaces."""
    (folder / "tokenizer.model").write_bytes((OUT / "llama" / "tokenizer.model").read_bytes())
    write(folder, "tokenizer_config.json", {"add_prefix_space": False, "add_bos_token": False})
    write(folder, "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})


def code_llama(folder):
    """The same model; the class has four tokens more, one of which has another name here."""
    (folder / "tokenizer.model").write_bytes((OUT / "llama" / "tokenizer.model").read_bytes())
    write(folder, "tokenizer_config.json", {
        "tokenizer_class": "CodeLlamaTokenizer", "additional_special_tokens": ["<|end|>"], "suffix_token": "<SUF>"})


def t5(folder):
    train(folder, "spiece.model", model_type="unigram", vocab_size=VOCABULARY, character_coverage=0.98,
          pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 20})


def xlm_roberta(folder):
    train(folder, "sentencepiece.bpe.model", model_type="unigram", vocab_size=VOCABULARY, character_coverage=0.98)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})


def bert(folder, **config):
    vocab = json.loads((TOKENIZERS / "bert" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    write(folder, "vocab.txt", "".join(word + "\n" for word in sorted(vocab, key=vocab.get)))
    write(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})


def bert_cased(folder):
    bert(folder, tokenizer_class="DistilBertTokenizer", do_lower_case=False, tokenize_chinese_chars=False,
         strip_accents=True)


MADE = {f.__name__: f for f in (gpt2, gpt2_bos, roberta, qwen2, llama, llama_new, llama_plain, code_llama, t5,
                                xlm_roberta, bert, bert_cased)}


def decoded(tok, ids):
    h = 0xCBF29CE484222325
    for skip in (True, False):
        h = fnv_text(tok.backend_tokenizer.decode(ids, skip_special_tokens=skip), h)
    return h


def expectations(tok, texts):
    for i in range(0, len(texts), EVERY):
        plain = tok(texts[i], add_special_tokens=False)["input_ids"]
        full = tok(texts[i])["input_ids"]
        # Code Llama's class takes a pair for a gap to fill, which no tokenizer.json can say.
        pair = tok.backend_tokenizer.encode(texts[i], texts[(i + 7) % len(texts)]).ids
        h = fnv(pair, fnv([len(pair)], fnv(full, fnv([len(full)]))))
        yield f"{len(plain)} {fnv(plain):x} {h:x} {decoded(tok, full):x}"
    for ids in random_ids(len(tok)):
        yield f"{decoded(tok, ids):x}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    print("transformers", transformers.__version__)
    texts = [t for group in hard_strings.categories().values() for t in group]
    for name in args.names or MADE:
        folder = OUT / name
        if args.train or not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            MADE[name](folder)
        tok = AutoTokenizer.from_pretrained(str(folder))
        roles = {k: [v, tok.convert_tokens_to_ids(v)] for k, v in tok.special_tokens_map.items() if isinstance(v, str)}
        lines = [json.dumps(roles, sort_keys=True, ensure_ascii=False), *expectations(tok, texts)]
        (folder / "expected.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {type(tok).__name__}, {len(tok)} tokens, {len(lines)} lines")


if __name__ == "__main__":
    main()

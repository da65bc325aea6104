"""Makes tests/golden/tokenizer: small tokenizers in well-known layouts, the hard strings, and what
the Python package `tokenizers` makes of them.

    python tests/golden/make_tokenizer_goldens.py [--train] [NAME...]

--train builds the small tokenizers anew (they are committed); without it only the expectations are
written. Needs `tokenizers`; `smollm2` needs the prepared default model.

expected.txt has one line per string, in order: number of ids, then three hashes: the ids without
special tokens; everything about the encoding with special tokens, alone and with the next string
but six as its pair; the decoded texts. Then one line per random list of ids: hash of its decoded
texts. Hashes are FNV-1a over 32-bit words, in hexadecimal.
"""
import argparse
import json
import pathlib

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

import hard_strings

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tokenizer"
SMOLLM2 = HERE.parents[1] / ".cache/models/SmolLM2-135M-Instruct"
VOCABULARY = 1200
RANDOM_LISTS = 300
MASK = (1 << 64) - 1

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def corpus():
    texts = [t for group in hard_strings.categories().values() for t in group]
    words = " ".join(hard_strings.WORDS)
    return texts + [words, words.lower(), words.upper()] * 20


def train(tok, trainer):
    tok.train_from_iterator(corpus(), trainer)
    return tok


def byte_level(split, specials, size=VOCABULARY, normalizer=None, **model):
    tok = Tokenizer(models.BPE(**model))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tok, trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                   initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in specials])
    return tok


def llama3():
    tok = byte_level(LLAMA3, ["<|begin_of_text|>", "<|eot_id|>", "<|im_start|>"], ignore_merges=True)
    bos = tok.token_to_id("<|begin_of_text|>")
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      [("<|begin_of_text|>", bos)])])
    return tok


def qwen2():
    return byte_level(QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC())


def o200k():
    tok = byte_level(O200K, ["<|endoftext|>"])
    tok.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("jinja", normalized=True, single_word=True)])
    return tok


def roberta():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tok.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    train(tok, trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False, special_tokens=specials,
                                   initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
    return tok


def with_byte_fallback(pre_tokenizer, metaspace_normalizer):
    """Trains on metaspace text, then puts the 256 byte tokens behind the specials."""
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.normalizer = metaspace_normalizer
    tok.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    train(tok, trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False, limit_alphabet=300,
                                   special_tokens=["<unk>", "<s>", "</s>"]))
    model = json.loads(tok.to_str())["model"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for b in range(256):
        vocab[f"<0x{b:02X}>"] = len(vocab)
    for token in sorted(model["vocab"], key=model["vocab"].get):
        vocab.setdefault(token, len(vocab))
    merges = [tuple(m) for m in model["merges"]]
    out = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    out.normalizer = metaspace_normalizer
    if pre_tokenizer:
        out.pre_tokenizer = pre_tokenizer
    out.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    out.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    return out


def llama2():
    tok = with_byte_fallback(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    return tok


def gemma():
    tok = with_byte_fallback(pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tok


def bert():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(tok, trainers.WordPieceTrainer(vocab_size=VOCABULARY, show_progress=False, special_tokens=specials))
    tok.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
                                                       [("[CLS]", 2), ("[SEP]", 3)])
    tok.enable_truncation(128)
    tok.enable_padding(length=128)
    return tok


def unigram():
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    train(tok, trainers.UnigramTrainer(vocab_size=VOCABULARY, show_progress=False, unk_token="<unk>", special_tokens=specials))
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tok.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    return tok


TRAINED = {f.__name__: f for f in (llama3, qwen2, o200k, roberta, llama2, gemma, bert, unigram)}


def fnv(words, h=0xCBF29CE484222325):
    for w in words:
        h = ((h ^ (w & 0xFFFFFFFF)) * 0x100000001B3) & MASK
    return h


def fnv_text(text, h):
    data = text.encode()
    return fnv(data, fnv([len(data)], h))


def details(e, h):
    none = lambda xs: [-1 if x is None else x for x in xs]
    for values in (e.ids, e.type_ids, e.special_tokens_mask, none(e.word_ids), none(e.sequence_ids),
                   [x for span in e.offsets for x in span]):
        h = fnv(values, fnv([len(values)], h))
    return h


def decoded(tok, ids):
    h = fnv_text(tok.decode(ids, skip_special_tokens=True), 0xCBF29CE484222325)
    return fnv_text(tok.decode(ids, skip_special_tokens=False), h)


def random_ids(limit):
    x = 1
    def draw(n):
        nonlocal x
        x = (x * 6364136223846793005 + 1442695040888963407) & MASK
        return (x >> 33) % n
    for _ in range(RANDOM_LISTS):
        yield [draw(limit) for _ in range(1 + draw(16))]


def expectations(tok, texts):
    tok.no_truncation()
    tok.no_padding()
    for i, text in enumerate(texts):
        plain = tok.encode(text, add_special_tokens=False)
        full = tok.encode(text)
        pair = tok.encode(text, texts[(i + 7) % len(texts)])
        yield (f"{len(plain.ids)} {fnv(plain.ids):x} {details(pair, details(full, 0xCBF29CE484222325)):x} "
               f"{decoded(tok, full.ids):x}")
    for ids in random_ids(max(tok.get_vocab().values()) + 1):
        yield f"{decoded(tok, ids):x}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    groups = hard_strings.categories()
    with open(OUT / "strings.json", "w", encoding="utf-8") as f:
        f.write("{" + ",\n".join(json.dumps(c) + ": [\n" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in ts) + "]"
                                 for c, ts in groups.items()) + "}\n")
    texts = [t for group in groups.values() for t in group]
    for name in args.names or [*TRAINED, "smollm2"]:
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        source = folder / "tokenizer.json"
        if name == "smollm2":
            source = SMOLLM2 / "tokenizer.json"
        elif args.train or not source.exists():
            source.write_text(json.dumps(json.loads(TRAINED[name]().to_str()), ensure_ascii=False,
                                         separators=(",", ":")) + "\n", encoding="utf-8")
        lines = list(expectations(Tokenizer.from_file(str(source)), texts))
        (folder / "expected.txt").write_text("\n".join(lines) + "\n")
        print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    main()

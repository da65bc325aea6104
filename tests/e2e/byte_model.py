"""Whole model folders of a few hundred kilobytes, for tests that need several models."""

import json
import pathlib

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/models"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


def write_json(path, value):
    path.write_text(json.dumps(value))


def byte_letters():
    """The letter that byte-level tokenizers write for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(plain)))
    return [letters[byte] for byte in range(256)]


def byte_tokenizer():
    """A tokenizer.json whose tokens are the bytes, and three special ones."""
    special = [("<s>", 256), ("</s>", 257), ("<pad>", 258)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for content, number in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {letter: number for number, letter in enumerate(byte_letters())}
            | dict(special),
            "merges": [],
        },
    }


def make_byte_model(folder, golden="llama", properties=None):
    """Puts the golden model of that name, with a tokenizer of bytes, into `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(GOLDEN / golden / file)
    write_json(folder / "tokenizer.json", byte_tokenizer())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<s>",
                "eos_token": "</s>",
                "chat_template": TEMPLATE,
            }
        )
    )
    if properties:
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        (folder / "serving.properties").write_text("".join(lines))
    return folder

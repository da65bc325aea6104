"""A model of a few megabytes with the real tokenizer: what it says means nothing."""

import json
import math
import struct

from conftest import MODEL

SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 49152, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2,
}


def weight_shapes():
    hidden, heads, kv = SHAPE["hidden_size"], 64, 32
    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": [SHAPE["vocab_size"], hidden],
        "model.norm.weight": [hidden],
        layer + "input_layernorm.weight": [hidden],
        layer + "post_attention_layernorm.weight": [hidden],
        layer + "self_attn.q_proj.weight": [heads, hidden],
        layer + "self_attn.k_proj.weight": [kv, hidden],
        layer + "self_attn.v_proj.weight": [kv, hidden],
        layer + "self_attn.o_proj.weight": [hidden, heads],
        layer + "mlp.gate_proj.weight": [64, hidden],
        layer + "mlp.up_proj.weight": [64, hidden],
        layer + "mlp.down_proj.weight": [hidden, 64],
    }


def safetensors():
    """bf16 weights with a pattern that has no period of a row, so that rows differ."""
    pattern = b"".join(struct.pack("<H", 0x3C00 + 37 * i % 509 + (i % 2 << 15)) for i in range(8191))
    header, begin = {}, 0
    for name, shape in weight_shapes().items():
        end = begin + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    data = (pattern * (begin // len(pattern) + 1))[:begin]
    return struct.pack("<Q", len(text)) + text + data


def files():
    """The model's files, path -> content."""
    out = {"config.json": json.dumps(SHAPE).encode(), "model.safetensors": safetensors()}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        out[name] = (MODEL / name).read_bytes()
    return out


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return folder

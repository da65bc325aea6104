"""Model folders of real geometry: config.json of a published size, and a tokenizer with as many words."""

import json
import pathlib

SHAPES = {
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
               num_key_value_heads=8, head_dim=64, tie_word_embeddings=True),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, head_dim=128, tie_word_embeddings=False),
    "70b": dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
                num_key_value_heads=8, head_dim=128, tie_word_embeddings=False),
}
VOCABULARY = 128256


def config_of(name):
    return dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCABULARY, hidden_act="silu",
        max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0, attention_bias=False, mlp_bias=False,
        bos_token_id=128000, eos_token_id=128001, torch_dtype="bfloat16", initializer_range=0.02,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=8192),
        **SHAPES[name])


def parameters(name):
    s = SHAPES[name]
    kv = s["num_key_value_heads"] * s["head_dim"]
    q = s["num_attention_heads"] * s["head_dim"]
    layer = s["hidden_size"] * (2 * q + 2 * kv + 3 * s["intermediate_size"])
    tables = 1 if s["tie_word_embeddings"] else 2
    return layer * s["num_hidden_layers"] + tables * VOCABULARY * s["hidden_size"]


def write_folder(folder, name, tokenizer):
    """config.json, and the tokenizer with words added until every id has one."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name)))
    words = json.loads(pathlib.Path(tokenizer).read_text())
    vocabulary = words["model"]["vocab"]
    for i in range(max(vocabulary.values()) + 1, VOCABULARY):
        vocabulary[f"\u0120w{i}"] = i
    (folder / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False))
    return folder

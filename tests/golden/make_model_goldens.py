#!/usr/bin/env python3
"""Makes the tiny random-weight models in tests/golden/models and what transformers computes with them.

Needs torch and transformers; the tests themselves do not, they read what this script committed.

  make_model_goldens.py tiny [NAME...]    writes tests/golden/models/<name>/, all without names
  make_model_goldens.py smollm2 FOLDER    writes tests/golden/models/smollm2.json from a converted folder

Each folder holds config.json, the weights and expected.json:
  {"cases": [{"prompt": [ids], "prompt_logprobs": [floats], "tokens": [ids], "logprobs": [floats]}]}
prompt_logprobs[i] belongs to prompt[i + 1]. Prompts along whose path the two best logits are closer
than MARGIN are thrown away, so that a token-for-token comparison cannot hinge on rounding.
"""
import json
import os
import random
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
MARGIN = 2e-3
LENGTHS = [1, 2, 5, 15, 16, 17, 40, 130, 513, 2000]
VOCABULARY = 259  # Not a multiple of any panel width.

torch.set_num_threads(1)


def rope(kind, **more):
    return {"rope_type": kind, **more}


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}

# name: (config, weights of which other model, stored dtype, number of shards)
MODELS = {
    "llama": (LLAMA, None, torch.float32, 1),
    "llama-llama3": ({**LLAMA, "max_position_embeddings": 4096, "rope_scaling": rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=256)}, "llama", None, 0),
    "llama-linear": ({**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}}, "llama", None, 0),
    "llama-yarn": ({**LLAMA, "rope_scaling": rope(
        "yarn", factor=8.0, original_max_position_embeddings=512)}, "llama", None, 0),
    "llama-yarn-mscale": ({**{k: v for k, v in LLAMA.items() if k != "rope_theta"}, "rope_parameters": rope(
        "yarn", rope_theta=500.0, factor=8.0, original_max_position_embeddings=512, mscale=1.3,
        mscale_all_dim=0.7, beta_fast=16, beta_slow=2, truncate=False)}, "llama", None, 0),
    "llama-dynamic": ({**LLAMA, "max_position_embeddings": 256, "rope_scaling": rope(
        "dynamic", factor=8.0)}, "llama", None, 0),
    "mistral": ({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "sliding_window": 70, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float16"}, None, torch.float16, 1),
    "qwen2": ({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 48,
        "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 1, "vocab_size": VOCABULARY, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 4096,
        "max_window_layers": 4, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"},
        None, torch.float32, 3),
    "qwen3": ({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 48,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"}, None, torch.bfloat16, 1),
    "gpt2": ({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 48, "n_layer": 3,
        "n_head": 3, "n_positions": 2048, "n_ctx": 2048, "vocab_size": VOCABULARY,
        "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "bos_token_id": 1,
        "eos_token_id": 2}, None, torch.float32, 1),
}
# Everything that Llama's configuration can switch on, and a head size of its own.
MODELS["llama-bias"] = ({
    **LLAMA, "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 5,
    "num_key_value_heads": 5, "head_dim": 12, "attention_bias": True, "mlp_bias": True,
    "tie_word_embeddings": True, "hidden_act": "gelu"}, None, torch.float32, 1)
MODELS["qwen2-window"] = ({**MODELS["qwen2"][0], "use_sliding_window": True, "sliding_window": 33,
                           "max_window_layers": 2}, "qwen2", None, 0)


def spread(model, seed):
    """Weights that make every part matter: attention not flat, norms not 1, biases not 0."""
    g = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if name.endswith("bias"):
                p.copy_((0.3 if "_proj" in name and "c_" not in name else 0.05) * noise)
            elif "wpe" in name:
                p.copy_(0.5 * noise)
            elif p.dim() == 1:
                p.copy_(1 + 0.2 * noise)
            elif "embed" in name or "wte" in name or "lm_head" in name:
                # A tied embedding stays small, or the input token would always predict itself.
                p.copy_(noise * (0.35 if "lm_head" in name else 0.12 if tied else 0.8))
            else:
                fan_in = p.shape[0] if "c_" in name else p.shape[1]  # Conv1D is transposed
                p.copy_(noise * 1.3 / fan_in ** 0.5)


def write_weights(folder, model, dtype, shards):
    state, seen = {}, set()
    for name, t in model.state_dict().items():
        if t.data_ptr() in seen:
            continue  # tied: the embedding is stored once
        seen.add(t.data_ptr())
        state[name] = t.to(dtype).contiguous()
    if shards == 1:
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    names = list(state)
    where = {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: state[n] for n in names[s::shards]}
        save_file(part, os.path.join(folder, file), metadata={"format": "pt"})
        where.update({n: file for n in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": sum(t.nbytes for t in state.values())},
                   "weight_map": where}, f, indent=1)


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def rounded(values):
    return [round(float(v), 6) for v in values]


def run_case(model, prompt, new_tokens):
    """Greedy continuation by full recomputation; None when a choice was too close."""
    ids, tokens, logprobs, prompt_logprobs = list(prompt), [], [], []
    for step in range(max(new_tokens, 1)):
        logits = logits_of(model, ids)
        logp = torch.log_softmax(logits, -1)
        if step == 0:
            prompt_logprobs = [logp[i, prompt[i + 1]] for i in range(len(prompt) - 1)]
            if new_tokens == 0:
                break
        best = torch.topk(logits[-1], 2).values
        if best[0] - best[1] < MARGIN:
            return None
        token = int(torch.argmax(logits[-1]))
        tokens.append(token)
        logprobs.append(logp[-1, token])
        ids.append(token)
    return {"prompt": prompt, "prompt_logprobs": rounded(prompt_logprobs), "tokens": tokens,
            "logprobs": rounded(logprobs)}


def write_expected(path, value):
    with open(path, "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


def make_tiny(only):
    from transformers import AutoConfig
    for number, (name, (config, weights_of, dtype, shards)) in enumerate(MODELS.items()):
        if only and name not in only:
            continue
        folder = os.path.join(HERE, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, indent=1)
            f.write("\n")
        if weights_of is None:
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
            spread(model, 100 + number)
            write_weights(folder, model, dtype, shards)
        else:
            other = os.path.join(HERE, weights_of)
            for file in sorted(os.listdir(other)):
                if "safetensors" in file:
                    os.symlink(os.path.join("..", weights_of, file), os.path.join(folder, file))
        r = random.Random(number)
        cases = []
        for length in LENGTHS:
            new = 8 if length > 600 else 24
            if name == "llama-dynamic" and length > 200:
                new = 0  # The base would grow with every token: only the prompt is comparable.
            case = None
            while case is None:
                # A fresh model each time: dynamic scaling remembers the longest input it saw.
                model = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, attn_implementation="eager").eval()
                case = run_case(model, [r.randrange(3, VOCABULARY) for _ in range(length)], new)
            cases.append(case)
        write_expected(os.path.join(folder, "expected.json"), {"cases": cases})
        print(name, sum(p.numel() for p in model.parameters()), "parameters,",
              len({t for c in cases for t in c["tokens"]}), "distinct tokens", flush=True)


def make_smollm2(folder):
    """Greedy tokens in fp32 and how far transformers' own bf16 is from that."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    text = open(os.path.join(HERE, "..", "..", "..", "LICENSE"), encoding="utf-8").read()
    chat = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
            "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer.encode(text).ids
    prompts = [ids[40:41], ids[100:102], ids[7:12], ids[300:316], ids[450:467], ids[60:140],
               ids[900:1150], ids[200:713], ids[:1024], ids[:2000]]
    prompts += [tokenizer.encode(chat.format(q)).ids for q in (
        "What is the capital of France?", "Write a haiku about the sea.",
        "List the prime numbers below 20 and say why 1 is not one of them.")]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cases = []
    for prompt in prompts:
        case, cut = None, list(prompt)
        while case is None:
            case = run_case(model, cut, 6 if len(cut) > 600 else 24)
            if case is None:
                cut = cut[1:] if len(cut) > 1 else [cut[0] + 1]
        cases.append(case)
        print(len(cut), "tokens done", flush=True)
    # bf16 as transformers runs it, on the same prompts.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    errors = []
    for case in cases:
        logp = torch.log_softmax(logits_of(model, case["prompt"]), -1)
        mine = torch.stack([logp[i, case["prompt"][i + 1]] for i in range(len(case["prompt"]) - 1)]) \
            if len(case["prompt"]) > 1 else torch.zeros(0)
        errors.append((mine - torch.tensor(case["prompt_logprobs"])).abs())
    errors = torch.cat(errors)
    write_expected(os.path.join(HERE, "smollm2.json"), {
        "cases": cases,
        "bf16": {"mean_error": float(errors.mean()), "max_error": float(errors.max())}})


if __name__ == "__main__":
    if sys.argv[1:2] == ["tiny"]:
        make_tiny(sys.argv[2:])
    elif sys.argv[1:2] == ["smollm2"] and len(sys.argv) == 3:
        make_smollm2(sys.argv[2])
    else:
        sys.exit(__doc__)

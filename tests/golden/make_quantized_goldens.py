#!/usr/bin/env python3
"""Makes expected-int8.json and expected-fp4.json of tiny models: what transformers computes with bitsandbytes' weights;
and tests/golden/quantized_linear.json: single layers of bitsandbytes.

Needs torch 2.6, transformers 4.57.3, accelerate and bitsandbytes 0.48.2 (a release that also runs on the CPU); the tests do not.

  make_quantized_goldens.py            writes the folder tests/golden/models/llama-outliers and all of these files

On the CPU bitsandbytes has its constants rounded to four digits, fp4's values and the 1 / 127^2 of int8; this script puts
those of its CUDA kernels in their place, which is what people run, and chooses fp4's codes as those do: weights of few bits
often lie just between two codes.

The form is that of make_model_goldens.py. Tokens are fed one by one, because LLM.int8() lets the outliers of a row
decide how its neighbours are computed, and Troupe takes every row for itself. "llama-outliers" is "llama" with a few
large factors in its norms, so that there are such outliers, in bf16.
"""
import json
import os
import random
import shutil
import tempfile
import warnings

import bitsandbytes
import torch
from bitsandbytes._ops import register_kernel
from bitsandbytes.backends.utils import CODE
from make_model_goldens import HERE, VOCABULARY, rounded, write_expected, write_weights
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

MODELS = ["llama", "llama-outliers", "mistral", "qwen2", "qwen3", "gpt2", "llama-bias"]
LENGTHS = [1, 2, 5, 16, 40, 130]
# Tokens to be generated, and how much better the best one has to be. With int8 a difference in the seventh digit may move
# an activation to the next code, which changes log-probabilities in the second digit.
KINDS = {"int8": ({"load_in_8bit": True}, 4, 0.3), "fp4": ({"load_in_4bit": True}, 16, 2e-3)}

warnings.filterwarnings("ignore")
positive = torch.tensor([0, 0.0625, 8, 12, 4, 6, 2, 3]) / 12
CODE["fp4"].copy_(torch.cat([positive, -positive]))
# Borders between sizes, and the code of each (csrc/kernels.cu, dQuantizeFP4).
BORDERS = torch.tensor([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333])
BY_SIZE = torch.tensor([0, 1, 6, 7, 4, 5, 2, 3])


@register_kernel("bitsandbytes::quantize_4bit", "cpu")
def _(A, blocksize, quant_type, quant_storage):
    flat = A.flatten().float()
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % blocksize)).view(-1, blocksize)
    largest = blocks.abs().amax(1)
    scaled = (blocks * (1 / largest)[:, None]).flatten()
    codes = BY_SIZE[(scaled.abs()[:, None] > BORDERS).sum(1)] + 8 * (scaled < 0)
    codes = codes[:len(flat)].to(torch.uint8)[:, None]
    return codes[::2] << 4 | codes[1::2], largest


@register_kernel("bitsandbytes::int8_mm_dequant", "cpu")
def _(A, row_stats, col_stats, dtype=None, bias=None):
    out = A.view(-1, A.shape[-1]) * (row_stats.reshape(-1, 1) * col_stats.reshape(1, -1)) / 127 ** 2
    return (out if bias is None else out + bias).to(dtype or torch.float16)


def make_outliers():
    folder = os.path.join(HERE, "llama-outliers")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(HERE, "llama", "config.json")) as f:
        config = {**json.load(f), "torch_dtype": "bfloat16"}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "llama"), dtype=torch.float32)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layernorm" in name:
                p[[3, 17, 40]] *= torch.tensor([9.0, 7.0, 12.0])
    write_weights(folder, model, torch.bfloat16, 1)


def run_case(model, prompt, new_tokens, margin):
    """Greedy continuation; None when a choice was too close."""
    ids, cache, tokens, logprobs, prompt_logprobs = list(prompt), None, [], [], []
    for position in range(len(prompt) + new_tokens - 1):
        with torch.inference_mode():
            out = model(torch.tensor([[ids[position]]]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits = out.logits[0, -1].float()
        logp = torch.log_softmax(logits, -1)
        if position + 1 < len(prompt):
            prompt_logprobs.append(logp[prompt[position + 1]])
            continue
        best = torch.topk(logits, 2)
        if best.values[0] - best.values[1] < margin:
            return None
        token = int(best.indices[0])
        tokens.append(token)
        logprobs.append(logp[token])
        ids.append(token)
    return {"prompt": prompt, "prompt_logprobs": rounded(prompt_logprobs), "tokens": tokens,
            "logprobs": rounded(logprobs)}


def make_models():
    for number, name in enumerate(MODELS):
        whole = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, name), dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            whole.save_pretrained(folder)
            for kind, (bits, new_tokens, margin) in KINDS.items():
                model = AutoModelForCausalLM.from_pretrained(
                    folder, quantization_config=BitsAndBytesConfig(**bits), device_map="cpu", dtype=torch.float32,
                    attn_implementation="eager").eval()
                r = random.Random(number)
                cases = []
                # Logits of models with tied embeddings are closer to each other.
                margin = min(margin, 0.1) if whole.config.tie_word_embeddings else margin
                for length in LENGTHS:
                    case = None
                    while case is None:
                        case = run_case(model, [r.randrange(3, VOCABULARY) for _ in range(length)], new_tokens, margin)
                    cases.append(case)
                write_expected(os.path.join(HERE, name, f"expected-{kind}.json"), {"cases": cases})
                print(name, kind, len({t for c in cases for t in c["tokens"]}), "distinct tokens", flush=True)


def make_linear():
    """Rows with outliers and without; in 40 and 48 features fp4's blocks run over the ends of rows."""
    g = torch.Generator().manual_seed(1)
    cases = []
    for n, k in ((5, 64), (7, 128), (9, 40), (4, 48)):
        w = torch.randn(n, k, generator=g) * torch.tensor([0.3, 1.0, 0.02]).repeat(n)[:n, None]
        bias = torch.randn(n, generator=g)
        x = torch.randn(4, k, generator=g)
        x[1, 3], x[1, 30], x[2] = 6.5, -40.0, x[2] * 1e-3
        x[3, 7] = 5.9995  # Rounded to fp16 it is an outlier.
        case = {"n": n, "k": k, "w": w, "bias": bias, "x": x}
        eight = bitsandbytes.nn.Linear8bitLt(k, n, has_fp16_weights=False, threshold=6.0)
        four = bitsandbytes.nn.Linear4bit(k, n, compute_dtype=torch.float32, quant_type="fp4", compress_statistics=False)
        for kind, layer, parameter in (
                ("int8", eight, bitsandbytes.nn.Int8Params(w.clone(), requires_grad=False, has_fp16_weights=False)),
                ("fp4", four, bitsandbytes.nn.Params4bit(w.clone(), requires_grad=False, quant_type="fp4",
                                                         compress_statistics=False))):
            layer.weight, layer.bias = parameter, torch.nn.Parameter(bias.clone())
            layer = layer.to("cpu").eval()
            with torch.inference_mode():
                case[kind] = torch.cat([layer(row[None]) for row in x])
        cases.append({key: [float(f"{v:.9g}") for v in value.flatten().tolist()] if torch.is_tensor(value) else value
                      for key, value in case.items()})
    write_expected(os.path.join(HERE, "..", "quantized_linear.json"), {"cases": cases})


if __name__ == "__main__":
    if bitsandbytes.__version__ != "0.48.2":
        raise SystemExit(f"{__doc__}\nThis is bitsandbytes {bitsandbytes.__version__}.")
    torch.set_num_threads(1)
    make_outliers()
    make_linear()
    make_models()

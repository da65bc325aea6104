#!/usr/bin/env python3
"""Makes tests/golden/decoding.json: what transformers' beam search and contrastive search make of the tiny models.

Needs torch and transformers 4.45.2 (with tokenizers 0.20.3 and huggingface_hub 0.25.2), a release whose core still holds
contrastive search; the tests read what this script committed. Every case is computed in fp32 and in fp64, and only those are kept on which the two agree, so
that a token-for-token comparison cannot hinge on rounding.

  {"beams": [{"model", "prompt", "num_beams", "length_penalty", "early_stopping", "max_new_tokens", "eos", "processors",
              "sequences": [[ids]], "scores": [floats]}],
   "contrastive": [{"model", "prompt", "top_k", "penalty_alpha", "max_new_tokens", "eos", "processors", "tokens"}]}

Sequences hold the new tokens alone, the best first.
"""
import json
import os
import random
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ["llama", "gpt2", "qwen2", "mistral"]
VOCABULARY = 259
PAD = 0
PROCESSORS = [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 5}]

torch.set_num_threads(1)


def load(name):
    folder = os.path.join(HERE, "models", name)
    options = {"attn_implementation": "eager"}
    return [AutoModelForCausalLM.from_pretrained(folder, torch_dtype=t, **options).eval()
            for t in (torch.float32, torch.float64)]


def generate(model, case, **how):
    ids = torch.tensor([case["prompt"]])
    with torch.no_grad():
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=case["max_new_tokens"], do_sample=False,
            eos_token_id=case["eos"], pad_token_id=PAD, return_dict_in_generate=True, output_scores=True,
            **case["processors"], **how)


def new_tokens(row, case):
    """Without the prompt and what fills up behind the end."""
    tokens = row[len(case["prompt"]):].tolist()
    for i, token in enumerate(tokens):
        if token in case["eos"]:
            return tokens[:i + 1]
    return tokens


def beams(models, case):
    found = []
    for model in models:
        out = generate(model, case, num_beams=case["num_beams"], num_return_sequences=case["num_beams"],
                       length_penalty=case["length_penalty"], early_stopping=case["early_stopping"])
        found.append(([new_tokens(row, case) for row in out.sequences], out.sequences_scores.tolist()))
    if found[0][0] != found[1][0]:
        return None
    return {**case, "sequences": found[0][0], "scores": [round(x, 6) for x in found[0][1]]}


def contrastive(models, case):
    found = [new_tokens(generate(model, case, penalty_alpha=case["penalty_alpha"], top_k=case["top_k"]).sequences[0],
                        case) for model in models]
    return {**case, "tokens": found[0]} if found[0] == found[1] else None


def prompts_and_ends(r, name):
    return {"model": name, "prompt": [r.randrange(3, VOCABULARY) for _ in range(r.choice([1, 2, 5, 15, 16, 17, 40]))],
            "eos": sorted(r.sample(range(3, VOCABULARY), r.choice([1, 4, 12, 30]))), "processors": r.choice(PROCESSORS)}


def make():
    made = {"transformers": transformers.__version__, "beams": [], "contrastive": []}
    thrown = 0
    for number, name in enumerate(MODELS):
        models = load(name)
        r = random.Random(number)
        while sum(c["model"] == name for c in made["beams"]) < 30:
            case = {**prompts_and_ends(r, name), "num_beams": r.choice([2, 3, 4, 5, 8]),
                    "length_penalty": r.choice([1.0, 1.0, 0.0, 2.0, -1.0, 0.6]),
                    "early_stopping": r.choice([False, False, True, "never"]),
                    "max_new_tokens": r.choice([1, 4, 12, 24])}
            kept = beams(models, case)
            thrown += kept is None
            made["beams"] += [kept] if kept else []
        while sum(c["model"] == name for c in made["contrastive"]) < 15:
            case = {**prompts_and_ends(r, name), "top_k": r.choice([2, 4, 4, 7]),
                    "penalty_alpha": r.choice([0.2, 0.6, 0.6, 0.9]), "max_new_tokens": r.choice([1, 8, 24])}
            kept = contrastive(models, case)
            thrown += kept is None
            made["contrastive"] += [kept] if kept else []
        print(name, "done;", thrown, "cases thrown away so far", flush=True)
    with open(os.path.join(HERE, "decoding.json"), "w", encoding="utf-8") as f:
        lines = [f'"{kind}":[\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in made[kind]) + "\n]"
                 for kind in ("beams", "contrastive")]
        f.write(f'{{"transformers":"{made["transformers"]}",\n' + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    if not transformers.__version__.startswith("4.45."):
        sys.exit(f"{__doc__}\nThis is transformers {transformers.__version__}.")
    make()

#!/usr/bin/env python3
"""Makes tests/golden/decoding_stops.json: what transformers' beam search makes of the tiny models when text ends beams.

Needs torch and transformers 4.57 (4.57.1 with tokenizers 0.22.1 and huggingface_hub 0.34.4), whose stopping criteria end
single beams. A case is kept when fp32 and fp64 agree on it, and at least one beam ended at a stop sequence. Stop sequences
are token ids here, so that no tokenizer is needed.

  [{"model", "prompt", "num_beams", "length_penalty", "max_new_tokens", "eos", "stops": [[ids]],
    "sequences": [[ids]], "scores": [floats]}]
"""
import json
import os
import random
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ["llama", "gpt2", "qwen2", "mistral"]
VOCABULARY = 259
PAD = 0

torch.set_num_threads(1)


class Stops(StoppingCriteria):
    """Rows whose new tokens end with one of the sequences."""

    def __init__(self, prompt, stops):
        self.prompt, self.stops = prompt, stops

    def __call__(self, input_ids, scores, **kwargs):
        rows = input_ids[:, self.prompt:].tolist()
        return torch.tensor([any(row[-len(s):] == s for s in self.stops) for row in rows], dtype=torch.bool)


def load(name):
    folder = os.path.join(HERE, "models", name)
    return [AutoModelForCausalLM.from_pretrained(folder, torch_dtype=t, attn_implementation="eager").eval()
            for t in (torch.float32, torch.float64)]


def generate(model, case):
    ids = torch.tensor([case["prompt"]])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=case["max_new_tokens"], do_sample=False,
            eos_token_id=case["eos"], pad_token_id=PAD, return_dict_in_generate=True, output_scores=True,
            num_beams=case["num_beams"], num_return_sequences=case["num_beams"], early_stopping=True,
            length_penalty=case["length_penalty"],
            stopping_criteria=StoppingCriteriaList([Stops(len(case["prompt"]), case["stops"])]))
    return [trimmed(row, case) for row in out.sequences], out.sequences_scores.tolist()


def trimmed(row, case):
    """Without the prompt and what fills up behind the end."""
    tokens = row[len(case["prompt"]):].tolist()
    for i in range(1, len(tokens) + 1):
        if tokens[i - 1] in case["eos"] or any(tokens[:i][-len(s):] == s for s in case["stops"]):
            return tokens[:i]
    return tokens


def make():
    made = []
    for number, name in enumerate(MODELS):
        models = load(name)
        r = random.Random(number)
        kept = 0
        while kept < 15:
            case = {"model": name, "prompt": [r.randrange(3, VOCABULARY) for _ in range(r.choice([1, 5, 16, 40]))],
                    "num_beams": r.choice([2, 3, 4, 5]), "length_penalty": r.choice([1.0, 1.0, 0.0, 2.0]),
                    "max_new_tokens": r.choice([6, 12, 24]), "eos": sorted(r.sample(range(3, VOCABULARY), 2)), "stops": []}
            free = generate(models[0], case)[0]
            for row in r.sample(free, r.choice([1, 1, 2])):
                if len(row) >= 3:
                    begin, length = r.randrange(len(row) - 1), r.choice([1, 2, 3])
                    case["stops"].append(row[begin:begin + length])
            found = [generate(model, case) for model in models]
            stopped = any(any(row[-len(s):] == s for s in case["stops"]) for row in found[0][0])
            if found[0][0] != found[1][0] or not stopped:
                continue
            made.append({**case, "sequences": found[0][0], "scores": [round(x, 6) for x in found[0][1]]})
            kept += 1
        print(name, "done", flush=True)
    with open(os.path.join(HERE, "decoding_stops.json"), "w", encoding="utf-8") as f:
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in made)
        f.write(f'{{"transformers":"{transformers.__version__}","beams":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    if not transformers.__version__.startswith("4.57."):
        sys.exit(f"{__doc__}\nThis is transformers {transformers.__version__}.")
    make()

#!/usr/bin/env python3
"""Makes tests/golden/decoding_groups.json: what transformers' diverse beam search makes of the tiny models.

Needs torch and transformers 4.45.2 (with tokenizers 0.20.3 and huggingface_hub 0.25.2), a release whose core still holds
beams in groups. A case is kept when fp32 and fp64 agree on it. Groups that are over write padding in their rows, which
later groups then pay for as for a token; cases in which the padding is drawn elsewhere are therefore left out.

  [{"model", "prompt", "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping",
    "max_new_tokens", "eos", "processors", "sequences": [[ids]], "scores": [floats]}]
"""
import json
import os
import random
import sys

import torch
import transformers
from make_decoding_goldens import HERE, MODELS, PAD, VOCABULARY, load, new_tokens


def generate(model, case, scores):
    """In fp64 it cannot give scores: they are put into a tensor of another type."""
    ids = torch.tensor([case["prompt"]])
    with torch.no_grad():
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=case["max_new_tokens"], do_sample=False,
            eos_token_id=case["eos"], pad_token_id=PAD, return_dict_in_generate=True, output_scores=scores,
            num_beams=case["num_beams"], num_return_sequences=case["num_beams"],
            num_beam_groups=case["num_beam_groups"], diversity_penalty=case["diversity_penalty"],
            length_penalty=case["length_penalty"], early_stopping=case["early_stopping"], **case["processors"])


def groups(models, case):
    single, double = generate(models[0], case, True), generate(models[1], case, False)
    rows = [[new_tokens(row, case) for row in out.sequences] for out in (single, double)]
    if rows[0] != rows[1] or any(PAD in row for row in rows[0]):
        return None
    return {**case, "sequences": rows[0], "scores": [round(x, 6) for x in single.sequences_scores.tolist()]}


def make():
    made = []
    for number, name in enumerate(MODELS):
        models = load(name)
        r = random.Random(number)
        while sum(c["model"] == name for c in made) < 15:
            beams, count = r.choice([(2, 2), (4, 2), (6, 3), (6, 2), (4, 4)])
            case = {"model": name, "prompt": [r.randrange(3, VOCABULARY) for _ in range(r.choice([1, 5, 16, 40]))],
                    "num_beams": beams, "num_beam_groups": count, "diversity_penalty": r.choice([0.2, 0.5, 1.5, 10.0]),
                    "length_penalty": r.choice([1.0, 1.0, 0.0, 2.0]), "early_stopping": r.choice([False, True, "never"]),
                    "max_new_tokens": r.choice([1, 4, 12, 24]),
                    "eos": sorted(r.sample(range(3, VOCABULARY), r.choice([1, 4, 12]))),
                    "processors": r.choice([{}, {}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 3}])}
            kept = groups(models, case)
            made += [kept] if kept else []
        print(name, "done", flush=True)
    with open(os.path.join(HERE, "decoding_groups.json"), "w", encoding="utf-8") as f:
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in made)
        f.write(f'{{"transformers":"{transformers.__version__}","beams":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    if not transformers.__version__.startswith("4.45."):
        sys.exit(f"{__doc__}\nThis is transformers {transformers.__version__}.")
    make()

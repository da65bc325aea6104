#!/usr/bin/env python3
"""Writes chains.json: what transformers makes of logits under many sampling parameters.

    python tests/golden/sampling/make_goldens.py      # torch 2.11, transformers 5.17

The processors come from GenerationMixin._get_logits_processor, so their order is transformers' own;
only the frequency and presence penalties, which it lacks, are inserted here. Logits are multiples of
1/64, exact in fp32 and in JSON, and have ties. torch.sort orders ties differently from one processor
to the next unless it is asked to be stable, so here it is.
"""

import functools
import json
import random
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessor
from transformers.generation.logits_process import (
    EncoderRepetitionPenaltyLogitsProcessor, RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor)

VOCABULARY = 48
LARGE = 49152
PROMPT = [3, 7, 11, 3, 20, 21, 22, 5]
ANSWER = [9, 7, 20, 21, 30, 3, 9, 9, 20, 21]


class CountPenalties(LogitsProcessor):
    """OpenAI's frequency and presence penalties, over generated tokens."""

    def __init__(self, frequency, presence, prompt_length):
        self.frequency, self.presence, self.prompt_length = frequency, presence, prompt_length

    def __call__(self, input_ids, scores):
        counts = torch.zeros_like(scores)
        generated = input_ids[:, self.prompt_length:]
        counts.scatter_add_(1, generated, torch.ones_like(generated, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)


def rows():
    generator = random.Random(20)
    peaked = [round(64 * generator.gauss(0, 3)) / 64 for _ in range(VOCABULARY)]
    flat = [round(64 * generator.gauss(0, 0.3)) / 64 for _ in range(VOCABULARY)]
    ties = [generator.choice([-2.0, 0.0, 0.5, 1.5, 1.5]) for _ in range(VOCABULARY)]
    equal = [0.25] * VOCABULARY
    certain = [-20.0] * VOCABULARY
    certain[33] = 10.0
    negative = [-5 - round(64 * abs(generator.gauss(0, 4))) / 64 for _ in range(VOCABULARY)]
    return [peaked, flat, ties, equal, certain, negative]


def large_row(salt):
    """A row that a test can make again: Knuth's hash to [0, 1), stretched by powers."""
    values = []
    for i in range(LARGE):
        u = ((i * 2654435761 + salt) % 2**32) / 2**32
        values.append(30 * (u * u) * (u * u) * (u * u) - 6)
    return values


def chains():
    """Parameters under the names of GenerationConfig; our own have a leading underscore."""
    yield {}
    for t in (0.1, 0.7, 1.5, 10.0):
        yield {"temperature": t}
    for k in (1, 2, 5, 20, 47, 48, 400):
        yield {"top_k": k}
    for p in (0.05, 0.2, 0.5, 0.8, 0.9, 0.95, 0.999):
        yield {"top_p": p}
    for p in (0.01, 0.1, 0.5, 1.0):
        yield {"min_p": p}
    for p in (0.1, 0.5, 0.9, 0.999):
        yield {"typical_p": p}
    for e in (0.001, 0.02, 0.3):
        yield {"epsilon_cutoff": e}
        yield {"eta_cutoff": e}
    yield {"temperature": 0.7, "top_k": 20, "top_p": 0.9}
    yield {"temperature": 1.3, "top_k": 10, "top_p": 0.6, "min_p": 0.2}
    yield {"temperature": 2.0, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8}
    yield {"top_k": 30, "typical_p": 0.5, "epsilon_cutoff": 0.02}
    yield {"top_p": 0.97, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02}
    yield {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.95,
           "epsilon_cutoff": 0.001, "eta_cutoff": 0.001}
    yield {"repetition_penalty": 1.3}
    yield {"repetition_penalty": 0.7}
    yield {"encoder_repetition_penalty": 1.4}
    yield {"encoder_repetition_penalty": 0.8, "repetition_penalty": 1.2}
    yield {"_frequency_penalty": 0.5}
    yield {"_presence_penalty": 1.1}
    yield {"_frequency_penalty": -0.7, "_presence_penalty": 0.4, "repetition_penalty": 1.1}
    for n in (1, 2, 3, 4, 30):
        yield {"no_repeat_ngram_size": n}
    yield {"bad_words_ids": [[9], [33], [17]]}
    yield {"bad_words_ids": [[21, 4], [20, 21, 33], [20, 5, 6], [2], [9, 20, 21, 0]]}
    yield {"bad_words_ids": [[1, 1], [21, 2], [2]]}
    yield {"min_length": 40}
    yield {"min_length": 18}
    yield {"min_new_tokens": 10}
    yield {"min_new_tokens": 11}
    yield {"suppress_tokens": [0, 5, 33, 40, 41, 42]}
    for n in (1, 2, 3, 4):
        yield {"encoder_no_repeat_ngram_size": n}
    yield {"forced_eos_token_id": [5, 6], "max_length": 19}
    yield {"forced_eos_token_id": 5, "max_length": 20}
    yield {"exponential_decay_length_penalty": [4, 1.05]}
    yield {"exponential_decay_length_penalty": [9, 1.7], "suppress_tokens": [2]}
    yield {"exponential_decay_length_penalty": [10, 1.7]}
    yield {"_history": [], "begin_suppress_tokens": [0, 11, 33]}
    yield {"_history": [4], "begin_suppress_tokens": [0, 11, 33]}
    yield {"_history": [], "forced_bos_token_id": 4, "_prompt": [8]}
    yield {"_history": [4], "forced_bos_token_id": 4, "_prompt": [8], "begin_suppress_tokens": [0]}
    yield {"_history": [20, 21], "_prompt": [8], "encoder_no_repeat_ngram_size": 2}
    yield {"_logit_bias": {"3": 2.5, "33": -30.0, "47": 0.125}}
    yield {"_logit_bias": {"0": 100.0, "1": -100.0}, "repetition_penalty": 1.5, "top_k": 6}
    yield {"_logit_bias": {"9": 1.0}, "encoder_repetition_penalty": 1.1, "repetition_penalty": 1.25,
           "_frequency_penalty": 0.3, "_presence_penalty": 0.2, "no_repeat_ngram_size": 2,
           "bad_words_ids": [[1], [21, 8]], "min_new_tokens": 20, "suppress_tokens": [13],
           "temperature": 0.9, "top_k": 25, "top_p": 0.92, "min_p": 0.02}


def processors_of(model, parameters, sample):
    """transformers' own list, with the count penalties behind the repetition penalties."""
    prompt = parameters.get("_prompt", PROMPT)
    ours = {name: parameters[name] for name in parameters if name.startswith("_")}
    theirs = {name: parameters[name] for name in parameters if not name.startswith("_")}
    if "_logit_bias" in ours:
        theirs["sequence_bias"] = {(int(t),): v for t, v in ours["_logit_bias"].items()}
    # Every default is written out: top_k is 50 when nothing is said.
    config = GenerationConfig(**({"top_k": 0, "eos_token_id": [1, 2], "do_sample": sample} | theirs))
    model._prepare_special_tokens(config, device="cpu")
    found = model._get_logits_processor(
        generation_config=config, input_ids_seq_length=len(prompt),
        encoder_input_ids=torch.tensor([prompt]), device="cpu")
    if "_frequency_penalty" in ours or "_presence_penalty" in ours:
        before = (SequenceBiasLogitsProcessor, EncoderRepetitionPenaltyLogitsProcessor,
                  RepetitionPenaltyLogitsProcessor)
        place = sum(type(p) in before for p in found)
        found.insert(place, CountPenalties(ours.get("_frequency_penalty", 0.0),
                                           ours.get("_presence_penalty", 0.0), len(prompt)))
    return found


def top_of(scores, count):
    """The highest finite scores, ties by the lowest id."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [[i, float(f"{scores[i]:.7g}")] for i in order[:count] if scores[i] > -1e30]


def small_cases(model):
    filters = {"temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
    for parameters in chains():
        history = torch.tensor([parameters.get("_prompt", PROMPT) + parameters.get("_history", ANSWER)])
        for number, row in enumerate(rows()):
            if number in (1, 3, 4) and parameters.keys() - filters:
                continue  # These rows try the filters; masks and penalties have seen enough.
            logits = torch.tensor([row])
            probabilities = processors_of(model, parameters, True)(history, logits).softmax(-1)[0].tolist()
            greedy = processors_of(model, parameters, False)(history, logits)[0].tolist()
            beams = processors_of(model, parameters, False)(history, logits.log_softmax(-1))[0].tolist()
            yield {"row": number, "parameters": parameters,
                   "probabilities": [[i, float(f"{p:.6g}")] for i, p in enumerate(probabilities) if p > 0],
                   "greedy": top_of(greedy, 1)[0][0], "beams": top_of(beams, 5)}


def large_cases(model):
    for salt in (1, 12345):
        logits = torch.tensor([large_row(salt)], dtype=torch.float32)
        for parameters in ({}, {"top_k": 50}, {"top_k": 3000}, {"top_p": 0.9}, {"top_p": 0.999},
                           {"temperature": 3.0, "top_p": 0.9}, {"min_p": 0.01}, {"typical_p": 0.8},
                           {"epsilon_cutoff": 1e-4}, {"eta_cutoff": 1e-3},
                           {"temperature": 0.7, "top_k": 200, "top_p": 0.9, "min_p": 0.02}):
            scores = processors_of(model, parameters, True)(torch.tensor([PROMPT]), logits)
            probabilities = scores.softmax(-1)[0]
            kept = torch.isfinite(scores[0]).nonzero()[:, 0]
            yield {"salt": salt, "parameters": parameters, "kept": len(kept),
                   "highest_kept": int(kept[-1]), "sum_of_ids": int(kept.sum()),
                   "first": [[int(i), float(f"{probabilities[i]:.6g}")] for i in kept[:5]]}


def main():
    torch.sort = functools.partial(torch.sort, stable=True)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8,
                                         num_hidden_layers=1, num_attention_heads=1))
    cases = list(small_cases(model))
    golden = {"vocabulary": VOCABULARY, "prompt": PROMPT, "answer": ANSWER, "eos": [1, 2],
              "rows": rows(), "cases": cases, "large": list(large_cases(model))}
    lines = ["{"]
    for name in ("vocabulary", "prompt", "answer", "eos"):
        lines.append(f'"{name}": {json.dumps(golden[name])},')
    for name in ("rows", "cases", "large"):
        lines.append(f'"{name}": [')
        lines.append(",\n".join(json.dumps(entry, separators=(",", ":")) for entry in golden[name]))
        lines.append("]" if name == "large" else "],")
    lines.append("}")
    target = Path(__file__).with_name("chains.json")
    target.write_text("\n".join(lines) + "\n")
    json.loads(target.read_text())
    print(f"{target}: {len(cases)} small and {len(golden['large'])} large cases, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""A peer engine behind a line protocol: reads one JSON job a line, answers one JSON line.

Jobs: {"engine": "transformers"|"ctranslate2", "dtype": "fp32"|"bf16", "batch": B, "prompt": P, "new": N}.
Answers: {"first_s": seconds to the first token of all rows, "step_ms": median time of a decode step,
"total_s": whole call, "tokens": generated}.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--threads", type=int, default=2)
given = parser.parse_args()
torch.set_num_threads(given.threads)
torch.manual_seed(0)

loaded = {}


def transformers_model(dtype):
    if ("transformers", dtype) not in loaded:
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        loaded["transformers", dtype] = transformers.AutoModelForCausalLM.from_pretrained(
            given.model, dtype=kind
        ).eval()
    return loaded["transformers", dtype]


class StampCriteria(transformers.StoppingCriteria):
    """Called after each step for the whole batch, which streamers are not made for."""

    def __init__(self):
        self.times = []

    def __call__(self, ids, scores, **_):
        self.times.append(time.perf_counter())
        return torch.zeros(ids.shape[0], dtype=torch.bool)


def run_transformers(job):
    model = transformers_model(job["dtype"])
    ids = torch.randint(100, 40000, (job["batch"], job["prompt"]))
    stamps = StampCriteria()
    with torch.inference_mode():
        begin = time.perf_counter()
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=job["new"],
            min_new_tokens=job["new"],
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=transformers.StoppingCriteriaList([stamps]),
        )
        end = time.perf_counter()
    steps = [b - a for a, b in zip(stamps.times, stamps.times[1:])]
    return {
        "first_s": stamps.times[0] - begin,
        "step_ms": statistics.median(steps) * 1e3 if steps else 0.0,
        "total_s": end - begin,
        "tokens": int(out.shape[0] * (out.shape[1] - job["prompt"])),
    }


def ctranslate2_model(dtype):
    if ("ctranslate2", dtype) not in loaded:
        import ctranslate2

        target = pathlib.Path(given.model).parent / (pathlib.Path(given.model).name + "-ct2")
        if not (target / "model.bin").exists():
            ctranslate2.converters.TransformersConverter(given.model).convert(str(target), force=True)
        loaded["ctranslate2", dtype] = ctranslate2.Generator(
            str(target),
            device="cpu",
            compute_type="float32" if dtype == "fp32" else "bfloat16",
            intra_threads=given.threads,
            inter_threads=1,
        )
    return loaded["ctranslate2", dtype]


def run_ctranslate2(job):
    model = ctranslate2_model(job["dtype"])
    names = transformers.AutoTokenizer.from_pretrained(given.model)
    ids = torch.randint(100, 40000, (job["batch"], job["prompt"])).tolist()
    prompts = [names.convert_ids_to_tokens(row) for row in ids]
    stamps = []

    def each(result):
        if result.batch_id == 0:
            stamps.append(time.perf_counter())
        return False

    begin = time.perf_counter()
    model.generate_batch(
        prompts,
        max_length=job["new"],
        min_length=job["new"],
        sampling_topk=1,
        include_prompt_in_result=False,
        beam_size=1,
        callback=each,
    )
    end = time.perf_counter()
    steps = [b - a for a, b in zip(stamps, stamps[1:])]
    return {
        "first_s": stamps[0] - begin,
        "step_ms": statistics.median(steps) * 1e3 if steps else 0.0,
        "total_s": end - begin,
        "tokens": job["batch"] * job["new"],
    }


print(json.dumps({"ready": True, "torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    try:
        answer = run_transformers(job) if job["engine"] == "transformers" else run_ctranslate2(job)
    except Exception as reason:
        answer = {"error": f"{type(reason).__name__}: {reason}"}
    print(json.dumps(answer), flush=True)

"""transformers on one GPU (or Accelerate over several), behind a line protocol: a JSON job a line.

{"do": "load", "config": FOLDER, "balanced": false}   random weights of the config, bf16; over all GPUs
{"do": "save", "to": FOLDER}                writes them as safetensors
{"do": "decode", "batch": B, "prompt": P, "new": N}
{"do": "score", "prompts": [[ids]]}         log-probability of each following token, bf16 and fp32
{"do": "copy"}                              device-to-device copy, bytes read + written a second
"""

import json
import statistics
import sys
import time

import torch
import transformers

model = None
folder = None


def load(job):
    global model, folder
    model, folder = None, job["config"]
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder)
    # Initialised on the device: the host would take minutes for billions of random numbers.
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    if job.get("balanced"):
        import accelerate

        memory = accelerate.utils.get_balanced_memory(model, dtype=torch.bfloat16, no_split_module_classes=["LlamaDecoderLayer"])
        places = accelerate.infer_auto_device_map(model, max_memory=memory, no_split_module_classes=["LlamaDecoderLayer"])
        model = accelerate.dispatch_model(model, places)
    model.eval()
    model.generation_config.eos_token_id = None
    torch.cuda.synchronize()
    return {}


def save(job):
    begin = time.perf_counter()
    model.save_pretrained(job["to"], max_shard_size="5GB")
    return {"seconds": time.perf_counter() - begin}


def generate(ids, new):
    torch.cuda.synchronize()
    begin = time.perf_counter()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                       do_sample=False, pad_token_id=0)
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def decode(job):
    ids = torch.randint(100, 40000, (job["batch"], job["prompt"]), device="cuda")
    generate(ids, 4)
    first = min(generate(ids, 1) for _ in range(3))
    whole = min(generate(ids, job["new"]) for _ in range(2))
    return {"first_s": first, "decode_tokens_per_s": job["batch"] * (job["new"] - 1) / (whole - first)}


def logprobs(prompts):
    rows = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device="cuda")
            logits = model(ids).logits[0, :-1].float()
            rows.append(torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0].cpu().tolist())
    return rows


def score(job):
    global model
    bf16 = logprobs(job["prompts"])
    torch.backends.cuda.matmul.allow_tf32 = False
    model = model.float()
    return {"bf16": bf16, "fp32": logprobs(job["prompts"])}


def copy(_):
    a = torch.empty(1 << 30, dtype=torch.float32, device="cuda").normal_()
    b = torch.empty_like(a)
    spent = []
    for _ in range(12):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        b.copy_(a)
        end.record()
        torch.cuda.synchronize()
        spent.append(begin.elapsed_time(end) / 1e3)
    host = torch.empty(1 << 28, dtype=torch.float32, pin_memory=True)
    up = []
    for _ in range(4):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        a[: 1 << 28].copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        up.append((1 << 30) / (time.perf_counter() - begin))
    return {"bytes_per_s": 2 * 4 * (1 << 30) / statistics.median(spent[2:]), "host_to_device": max(up)}


jobs = {"load": load, "save": save, "decode": decode, "score": score, "copy": copy}
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__,
                  "gpu": torch.cuda.get_device_name(0), "gpus": torch.cuda.device_count()}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    try:
        answer = jobs[job["do"]](job)
    except Exception as reason:
        answer = {"error": f"{type(reason).__name__}: {reason}"[:400]}
    print(json.dumps(answer), flush=True)

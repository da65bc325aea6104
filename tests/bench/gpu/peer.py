"""transformers on one GPU (or Accelerate over several), behind a line protocol: a JSON job a line.

{"do": "load", "config": FOLDER, "balanced": false}   random weights of the config, bf16; over all GPUs
{"do": "save", "to": FOLDER}                writes them as safetensors
{"do": "decode", "batch": B, "prompt": P, "new": N}
{"do": "score", "prompts": [[ids]]}         log-probability of each following token, bf16 and fp32
{"do": "copy"}                              device-to-device copy, bytes read + written a second
{"do": "arrivals", "times": [s], "prompt": P, "new": N, "limit": s, "blocks": n, "batch_tokens": n}
                                                continuous batching, requests at these seconds
"""

import json
import statistics
import sys
import threading
import time

import torch
import transformers

model = None
folder = None


def spread_out(config):
    """Accelerate's balanced split, each tensor drawn on the GPU where it goes: no GPU holds all of them."""
    import accelerate
    from accelerate.utils import set_module_tensor_to_device

    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    whole = ["LlamaDecoderLayer"]
    memory = accelerate.utils.get_balanced_memory(made, dtype=torch.bfloat16, no_split_module_classes=whole)
    places = accelerate.infer_auto_device_map(made, max_memory=memory, dtype=torch.bfloat16,
                                              no_split_module_classes=whole)

    def place_of(name):
        while name not in places and name:
            name = name.rpartition(".")[0]
        return places[name]

    for name, tensor in list(made.named_parameters()):
        value = torch.empty(tensor.shape, dtype=torch.bfloat16, device=place_of(name))
        value = value.fill_(1) if "norm" in name else value.normal_(0, config.initializer_range)
        set_module_tensor_to_device(made, name, place_of(name), value=value)
    # Its table is computed, not stored.
    rotary = type(made.model.rotary_emb)
    made.model.rotary_emb = rotary(config=config).to(place_of("model.rotary_emb"))
    return accelerate.dispatch_model(made, places)


def load(job):
    global model, folder
    model, folder = None, job["config"]
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder)
    if job.get("balanced"):
        model = spread_out(config).eval()
        model.generation_config.eos_token_id = None
        torch.cuda.synchronize()
        return {"devices": sorted({str(p) for p in model.hf_device_map.values()})}
    # Initialised on the device: the host would take minutes for billions of random numbers.
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
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


def arrivals(job):
    """transformers' continuous batching, fed as the clock says. Cut off at `limit` seconds."""
    settings = transformers.GenerationConfig(max_new_tokens=job["new"], do_sample=False, eos_token_id=-1, pad_token_id=0)
    # Without it the manager's steps run into the attention that knows no pages.
    if "paged" not in (model.config._attn_implementation or ""):
        model.set_attn_implementation("paged|sdpa")
    # Its attention without flash-attn looks at the whole cache for every query: a cache no larger than what
    # `blocks` says keeps that bearable.
    cache = transformers.generation.configuration_utils.ContinuousBatchingConfig(
        num_blocks=job.get("blocks"), max_batch_tokens=job.get("batch_tokens"))
    manager = model.init_continuous_batching(generation_config=settings, continuous_batching_config=cache)
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(100, 40000, (len(job["times"]) + 4, job["prompt"]), generator=generator).tolist()
    manager.warmup()
    manager.start()
    try:
        for prompt in prompts[-4:]:
            manager.add_request(prompt, max_new_tokens=8)
        for _ in range(4):
            if manager.get_result(timeout=30) is None:
                raise RuntimeError("continuous batching answers nothing; see peer.log")
        begin = time.perf_counter()
        submitted = {}

        def feed():
            for prompt, at in zip(prompts, job["times"]):
                time.sleep(max(0.0, begin + at - time.perf_counter()))
                now = time.perf_counter()
                name = manager.add_request(prompt, max_new_tokens=job["new"], record_timestamps=True)
                submitted[name] = now

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        done = {}
        while len(done) < len(job["times"]) and time.perf_counter() - begin < job["limit"]:
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                done[result.request_id] = (time.perf_counter(), len(result.generated_tokens), result.timestamps or [])
        last = max((x[0] for x in done.values()), default=time.perf_counter())
        first = sorted(x[2][0] - submitted[name] for name, x in done.items() if x[2] and name in submitted)
        tokens = sum(x[1] for x in done.values())
        answer = {"finished": len(done), "of": len(job["times"]), "tokens_per_s": tokens / (last - begin)}
        if first:
            answer["ttft_ms"] = {"p50": first[len(first) // 2] * 1e3, "p99": first[int(len(first) * 0.99)] * 1e3}
        return answer
    finally:
        manager.stop(block=True, timeout=20)
        if hasattr(manager, "destroy"):
            manager.destroy()
        if hasattr(model, "destroy_cached_continuous_batching_manager"):
            model.destroy_cached_continuous_batching_manager()


jobs = {"arrivals": arrivals, "load": load, "save": save, "decode": decode, "score": score, "copy": copy}
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__,
                  "gpu": torch.cuda.get_device_name(0), "gpus": torch.cuda.device_count()}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    try:
        answer = jobs[job["do"]](job)
    except Exception as reason:
        answer = {"error": f"{type(reason).__name__}: {reason}"[:400]}
    print(json.dumps(answer), flush=True)

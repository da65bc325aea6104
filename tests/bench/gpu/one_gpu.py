#!/usr/bin/env python3
"""One GPU: checks, then Troupe over HTTP beside transformers, in one run of under nine minutes.

    tests/bench/gpu/gather FOLDER          on the machine that builds
    python3 FOLDER/one_gpu.py              on the machine with the GPU and torch

Prints the checks and one table; writes everything to $OUT. --only picks parts.
"""

import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import threading
import time

import rig
import shapes
from rig import OUT, PROGRAMS, Peer, Troupe, environment, guarded, note, poisson, steady

PARTS = ["tiny", "peer1b", "1b", "peer8b", "8b", "peerarrivals", "arrivals", "steady", "graphs", "invariant", "swap",
         "score1b", "score8b", "sanitizer"]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/troupe-gpu"))
parser.add_argument("--only", action="append", choices=PARTS)
parser.add_argument("--seconds", type=float, default=520, help="parts that would begin later are left out")
parser.add_argument("--flag", action="append", default=[], help="further flag of troupe serve")
given = parser.parse_args()
given.work.mkdir(parents=True, exist_ok=True)
rig.FLAGS += given.flag
figures = {}


def wanted(part):
    if given.only and part not in given.only:
        return False
    if rig.elapsed() > given.seconds:
        print(f"{part}: left out, the time is up", flush=True)
        return False
    return True


RATES = (30, 36, 40)  # Requests a second.
ARRIVALS_S = 10


def tiny():
    done = subprocess.run([PROGRAMS / "bin/models_cuda_backend_test"], capture_output=True, text=True,
                          env=environment(), timeout=240)
    (OUT / "tiny.log").write_text(done.stdout + done.stderr)
    note("tiny models against the CPU: " + done.stdout.strip().splitlines()[-1] if done.stdout.strip() else
         f"tiny models: the test died ({done.returncode}): {done.stderr[-500:]}")
    if done.returncode != 0:
        print(done.stdout[-5000:], flush=True)


def measure_peer(peer, size, batches, new):
    peer("load", config=str(folders[size]))
    peer("decode", batch=1, prompt=128, new=8)
    for batch in batches:
        figures[f"peer {size} {batch}"] = peer("decode", batch=batch, prompt=128, new=new)


def measure_ours(size, batches, new):
    server = Troupe(size, folders[size], "--load-format", "dummy", "--max-rolling-batch-size", 128,
                    "--max-model-len", 4096, "--model-loading-timeout", 120)
    if server.port is None:
        return
    note(f"{size}: ready after {server.ready_s:.1f} s; GPU memory {server.memory_of_gpu()} MiB")
    for line in server.seen.splitlines():
        if "GPU" in line or "KV cache" in line:
            print("      " + line[-170:], flush=True)
    for batch in batches:
        options = dict(streams=batch, prompt_tokens=128, vocabulary=40000)
        server.load(new_tokens=24, seed=7 * batch, **options)  # Recordings are made at the second step of a kind.
        rounds = [server.load(new_tokens=new, seed=7 * batch + i + 1, **options) for i in range(3 if batch < 64 else 2)]
        rounds = [r for r in rounds if r]
        if rounds:
            figures[f"ours {size} {batch}"] = sorted(rounds, key=lambda r: r["decode_tokens_per_s"])[len(rounds) // 2]
            figures[f"ours {size} {batch}"]["all"] = [r["decode_tokens_per_s"] for r in rounds]
            note(f"{size}, batch {batch}: {figures[f'ours {size} {batch}']['all']}, threads "
                 f"{figures[f'ours {size} {batch}']['threads']}")
    if server.process.poll() is not None:
        note(f"{size}: the server ended with {server.process.returncode}")
    server.stop()


def table():
    print(f"\n{'work':34} {'peer':>10} {'ours':>10} {'ratio':>6} {'floor':>7} {'ours ms/step':>12} {'cpu us/tok':>10}")
    bandwidth = figures.get("copy", {}).get("bytes_per_s", 0)
    for size in ("1b", "8b"):
        weight_bytes = 2 * shapes.parameters(size)
        for batch in (1, 16, 64, 128):
            ours, peer = figures.get(f"ours {size} {batch}", {}), figures.get(f"peer {size} {batch}", {})
            if not ours and not peer:
                continue
            a, b = peer.get("decode_tokens_per_s", 0), ours.get("decode_tokens_per_s", 0)
            share = b / batch * weight_bytes / bandwidth if bandwidth else 0
            print(f"{size + f', batch {batch}, decode tok/s':34} {a:10.1f} {b:10.1f} {b / a if a else 0:6.2f} "
                  f"{share:7.1%} {batch / b * 1e3 if b else 0:12.3f} {ours.get('cpu_us_per_token', 0):10.1f}")
            a, b = peer.get("first_s", 0) * 1e3, ours.get("all_first_tokens_s", 0) * 1e3
            print(f"{size + f', batch {batch}, all first tokens, ms':34} {a:10.1f} {b:10.1f} {a / b if b else 0:6.2f}")
    for name, value in figures.items():
        if name not in ("about", "copy") and not name.startswith(("ours", "peer 1b", "peer 8b")):
            print(f"{name:34} {json.dumps(value)}")
    (OUT / "figures.json").write_text(json.dumps(figures, indent=1))


def score(peer, size):
    """Log-probabilities by teacher forcing, of the same weights on disk, against the peer's fp32."""
    folder = given.work / f"{size}-saved"
    if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
        peer("load", config=str(folders[size]))
        saved = peer("save", to=str(folder))
        note(f"{size}: folder written in {saved.get('seconds', 0):.1f} s")
        shutil.copy(folders[size] / "tokenizer.json", folder)
        shutil.copy(folders[size] / "config.json", folder)
    generator = random.Random(5)
    prompts = [[generator.randrange(100, 120000) for _ in range(n)] for n in (64, 200, 512)]
    reference = peer("score", prompts=prompts)
    if "error" in reference:
        return
    peer("load", config=str(folders["1b"]))  # Makes room.
    server = Troupe(f"score-{size}", folder, "--max-model-len", 4096, "--gpu-memory-utilization", 0.8)
    if server.port is None:
        return
    note(f"{size}: ready from the page cache after {server.ready_s:.1f} s")
    figures[f"ready {size}"] = server.ready_s
    errors = {"ours": [], "peer": []}
    for prompt, bf16, fp32 in zip(prompts, reference["bf16"], reference["fp32"]):
        answer = server.ask({"model": "m", "prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 0,
                             "temperature": 0})
        got = answer["choices"][0]["logprobs"]["token_logprobs"][1:len(prompt)]
        errors["ours"] += [abs(a - b) for a, b in zip(got, fp32)]
        errors["peer"] += [abs(a - b) for a, b in zip(bf16, fp32)]
    result = {who: {"mean": statistics.mean(e), "max": max(e)} for who, e in errors.items()}
    result["ratio"] = {k: round(result["ours"][k] / result["peer"][k], 3) for k in ("mean", "max")}
    figures[f"score {size}"] = result
    server.stop()


def graphs(size):
    """The same requests with and without recordings must give the same tokens and log-probabilities."""
    answers = []
    for flags in ([], ["-o", "option.cuda_graphs=false"]):
        server = Troupe(f"graphs-{len(answers)}", folders[size], "--load-format", "dummy", "--max-model-len", 4096, *flags)
        if server.port is None:
            return
        answers.append([server.ask({"model": "m", "prompt": [7 + i] * 100, "max_tokens": 64, "temperature": t,
                                    "seed": 3, "logprobs": 2})["choices"][0] for i, t in enumerate((0, 0, 0.8))])
        server.stop()
    figures[f"graphs {size}"] = "same bits" if answers[0] == answers[1] else "DIFFERENT"
    note(f"with and without recordings: {figures[f'graphs {size}']}")


def serve_8b(name, *flags, batch=256):
    server = Troupe(name, folders["8b"], "--load-format", "dummy", "--max-rolling-batch-size", batch,
                    "--max-model-len", 4096, *flags)
    return server if server.port is not None else None


def peer_arrivals(peer):
    """transformers' continuous batching with the very arrivals that Troupe gets at the lowest rate."""
    peer("load", config=str(folders["8b"]))
    tried = {}
    for blocks in (32, 96):  # Caches of 8,192 and 24,576 tokens; its own choice, all of the GPU, ends nothing in 75 s.
        answer = peer("arrivals", times=poisson(RATES[0], ARRIVALS_S), prompt=512, new=256, limit=60, blocks=blocks,
                      batch_tokens=1024)
        tried[blocks] = answer
        note(f"peer, {RATES[0]} requests/s, {blocks} blocks: {answer}")
    figures["peer arrivals"] = max(tried.values(), key=lambda a: a.get("tokens_per_s", 0))


def arrivals():
    """512 tokens in, 256 out, Poisson: the rates one after the other, until first tokens come too late."""
    server = serve_8b("arrivals")
    if server is None:
        return
    server.load(streams=64, prompt_tokens=512, new_tokens=32, seed=1)
    for rate in RATES:
        file = given.work / f"arrivals-{rate}"
        file.write_text("\n".join(map(str, poisson(rate, ARRIVALS_S))))
        answer = server.load(arrivals=file, prompt_tokens=512, new_tokens=256, seed=rate)
        kept = {k: answer.get(k) for k in ("streams", "failed", "tokens_per_s", "ttft_ms", "itl_ms", "cpu_us_per_token")}
        figures.setdefault("arrivals", {})[rate] = kept
        peer = figures.get("peer arrivals", {}).get("tokens_per_s", 0)
        kept["times the peer"] = round((kept["tokens_per_s"] or 0) / peer, 2) if peer else None
        note(f"{rate} requests/s: {kept}")
        if (answer.get("ttft_ms") or {}).get("p99", 1e9) > 1000:
            break
    server.stop()


def steady_decode():
    """GPU busy, the host's time between steps and its CPU per token, while nothing but decoding happens."""
    server = serve_8b("steady", batch=128)
    if server is None:
        return
    for batch in (1, 64, 128):
        server.load(streams=batch, prompt_tokens=128, new_tokens=24, seed=batch)
        figures[f"steady {batch}"] = steady(server, batch, prompt_tokens=128, new_tokens=640, seed=batch + 1)
        note(f"steady decode, batch {batch}: {figures[f'steady {batch}']}")
    for name in ("16", "64"):
        firsts = [server.load(streams=int(name), prompt_tokens=128, new_tokens=2, seed=100 + i).get("all_first_tokens_s", 0)
                  for i in range(5)]
        figures[f"first tokens {name}"] = sorted(firsts)[2] * 1e3
        note(f"{name} prompts at once, all first tokens: {[round(x * 1e3, 1) for x in firsts]} ms")
    server.stop()
    one = serve_8b("one-in-flight", "--steps-in-flight", 1, batch=128)
    if one is not None:
        one.load(streams=64, prompt_tokens=128, new_tokens=24, seed=3)
        figures["one step in flight 64"] = steady(one, 64, prompt_tokens=128, new_tokens=640, seed=65)
        note(f"one step in flight, batch 64: {figures['one step in flight 64']}")
        one.stop()


def invariant():
    """The same tokens alone and among 128, and what that costs."""
    server = serve_8b("invariant", "--batch-invariant", "true", batch=160)
    if server is None:
        return
    bodies = [{"model": "m", "prompt": [50 + 7 * i + j % 90 for j in range(100 + 20 * i)], "max_tokens": 64,
               "temperature": t, "seed": 3, "logprobs": 1} for i, t in enumerate((0, 0, 0.8))]
    alone = [server.ask(body)["choices"][0] for body in bodies]
    done = {}
    crowd = threading.Thread(target=lambda: done.update(server.load(streams=128, prompt_tokens=128, new_tokens=512, seed=9)))
    crowd.start()
    time.sleep(4)
    among = [server.ask(body)["choices"][0] for body in bodies]
    crowd.join()
    answer = server.load(streams=128, prompt_tokens=128, new_tokens=128, seed=10)
    figures["batch_invariant"] = {"alone and among 128": "same" if alone == among else "DIFFERENT",
                                  "crowd": done.get("streams"),
                                  "decode_tokens_per_s at 128": answer.get("decode_tokens_per_s"),
                                  "first tokens ms at 128": answer.get("all_first_tokens_s", 0) * 1e3}
    note(f"batch_invariant: {figures['batch_invariant']}")
    server.stop()


def swap():
    """More streams than the KV cache holds: computing again against waiting in host memory."""
    for name, room in (("computed again", 0), ("in host memory", "16G")):
        server = serve_8b("swap-" + name.split()[0], "--kv-cache-bytes", "2G", "--kv-host-bytes", room, batch=64)
        if server is None:
            continue
        server.load(streams=16, prompt_tokens=512, new_tokens=24, seed=1)
        answer = server.load(streams=64, prompt_tokens=512, new_tokens=256, seed=2)
        seen = server.metrics()
        figures[f"preempted, {name}"] = {"tokens_per_s": answer.get("tokens_per_s"), "failed": answer.get("failed"),
                                         "preemptions": seen.get("troupe_preemptions_total"),
                                         "moved": seen.get("troupe_swaps_total")}
        note(f"preempted sequences {name}: {figures[f'preempted, {name}']}")
        server.stop()


def sanitizer():
    """racecheck and memcheck over what fits in the time; kernels alone are checked by their own test."""
    tool = shutil.which("compute-sanitizer") or next(
        (str(x) for x in pathlib.Path("/").glob("usr/local/cuda*/bin/compute-sanitizer")), None)
    if tool is None:
        note("compute-sanitizer is not on this machine")
        return
    for check in ("racecheck", "memcheck"):
        try:
            done = subprocess.run([tool, "--tool", check, PROGRAMS / "bin/models_cuda_backend_test",
                                   "recordings and shards change no bit"],
                                  capture_output=True, text=True, env=environment(), timeout=100)
            (OUT / f"{check}.log").write_text(done.stdout + done.stderr)
            figures[check] = (done.stdout.strip().splitlines() or ["no output"])[-1]
        except subprocess.TimeoutExpired:
            figures[check] = "not finished within 100 s"
        note(f"{check}: {figures[check]}")


folders = {size: shapes.write_folder(given.work / size, size, PROGRAMS / "tokenizer/tokenizer.json")
           for size in ("1b", "8b")}
print(subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                     capture_output=True, text=True).stdout.strip(), flush=True)
print(subprocess.run([PROGRAMS / "bin/troupe", "devices"], capture_output=True, text=True,
                     env=environment()).stdout.strip(), flush=True)
peer = None
try:
    if wanted("tiny"):
        guarded("tiny", tiny)
    needs_peer = any(not given.only or p in given.only for p in PARTS if "peer" in p or "score" in p)
    if needs_peer:
        peer = Peer()
        figures["about"] = peer.about
        figures["copy"] = peer("copy")
        note(f"peer {peer.about}; copy {figures['copy'].get('bytes_per_s', 0) / 1e12:.2f} TB/s, host to device "
             f"{figures['copy'].get('host_to_device', 0) / 1e9:.1f} GB/s")
    for size, batches in (("1b", (1, 64)), ("8b", (1, 16, 64, 128))):
        if wanted("peer" + size):
            guarded("peer" + size, measure_peer, peer, size, batches, 128)
            note(f"peer {size} measured")
        if wanted(size):
            if peer is not None:
                peer("load", config=str(folders["1b"]))
            guarded(size, measure_ours, size, batches, 128)
            note(f"ours {size} measured")
    if wanted("peerarrivals"):
        guarded("peerarrivals", peer_arrivals, peer)
        peer.stop()  # Its cache would leave no room.
        peer = None
    if peer is not None:
        peer("load", config=str(folders["1b"]))  # Makes room.
    for part, f in (("arrivals", arrivals), ("steady", steady_decode), ("graphs", lambda: graphs("8b")),
                    ("invariant", invariant), ("swap", swap)):
        if wanted(part):
            guarded(part, f)
    for size in ("1b", "8b"):
        if wanted("score" + size):
            peer = peer or Peer()
            guarded("score" + size, score, peer, size)
            note(f"{size} scored")
    if peer is not None:
        peer.stop()
        peer = None
    if wanted("sanitizer"):
        guarded("sanitizer", sanitizer)
finally:
    table()
    if peer is not None:
        peer.stop()

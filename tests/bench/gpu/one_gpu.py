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

import rig
import shapes
from rig import OUT, PROGRAMS, Peer, Troupe, environment, note

PARTS = ["tiny", "peer1b", "1b", "peer8b", "8b", "score1b", "score8b", "graphs", "arrivals"]
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
    for name in ("score 1b", "score 8b", "graphs 8b", "arrivals"):
        if name in figures:
            print(f"{name:34} {json.dumps(figures[name])}")
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


def arrivals():
    server = Troupe("arrivals", folders["8b"], "--load-format", "dummy", "--max-rolling-batch-size", 256,
                    "--max-model-len", 4096)
    if server.port is None:
        return
    for rate in (10, 20, 30):
        answer = server.load(streams=int(rate * 12), gap=1 / rate, prompt_tokens=512, new_tokens=256, seed=rate)
        figures.setdefault("arrivals", {})[rate] = {k: answer.get(k) for k in ("tokens_per_s", "ttft_ms", "itl_ms")}
    server.stop()


folders = {size: shapes.write_folder(given.work / size, size, PROGRAMS / "tokenizer/tokenizer.json")
           for size in ("1b", "8b")}
print(subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                     capture_output=True, text=True).stdout.strip(), flush=True)
print(subprocess.run([PROGRAMS / "bin/troupe", "devices"], capture_output=True, text=True,
                     env=environment()).stdout.strip(), flush=True)
peer = None
try:
    if wanted("tiny"):
        tiny()
    needs_peer = any(not given.only or p in given.only for p in PARTS if "peer" in p or "score" in p)
    if needs_peer:
        peer = Peer()
        figures["about"] = peer.about
        figures["copy"] = peer("copy")
        note(f"peer {peer.about}; copy {figures['copy'].get('bytes_per_s', 0) / 1e12:.2f} TB/s, host to device "
             f"{figures['copy'].get('host_to_device', 0) / 1e9:.1f} GB/s")
    for size, batches in (("1b", (1, 64)), ("8b", (1, 16, 64, 128))):
        if wanted("peer" + size):
            measure_peer(peer, size, batches, 128)
            note(f"peer {size} measured")
        if wanted(size):
            if peer is not None:
                peer("load", config=str(folders["1b"]))
            measure_ours(size, batches, 128)
            note(f"ours {size} measured")
    for size in ("1b", "8b"):
        if wanted("score" + size):
            score(peer, size)
            note(f"{size} scored")
    if peer is not None:
        peer.stop()
        peer = None
    if wanted("graphs"):
        graphs("8b")
    if wanted("arrivals"):
        arrivals()
finally:
    table()
    if peer is not None:
        peer.stop()

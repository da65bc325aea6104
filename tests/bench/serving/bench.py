#!/usr/bin/env python3
"""The figures of docs/status.md: Troupe over HTTP beside its peers, interleaved, medians.

    make bench                        everything (about 15 minutes)
    tests/bench/serving/bench.py --only overhead --only start
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path)
parser.add_argument("--model", default=ROOT / ".cache/models/SmolLM2-135M-Instruct", type=pathlib.Path)
parser.add_argument("--python", default=sys.executable, help="Python with torch and transformers, for the peers")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--only", action="append", choices=[
    "decode", "batch16", "prefill", "bf16", "throughput", "arrivals", "stall", "overhead", "streams", "start", "memory"])
parser.add_argument("--json", type=pathlib.Path, help="also write all figures here")
given = parser.parse_args()

figures = {}


def wanted(name):
    return not given.only or name in given.only


class Troupe:
    def __init__(self, *arguments):
        self.begin = time.perf_counter()
        self.most_tokens = 0  # in the KV cache at once, at most
        self.process = subprocess.Popen(
            [given.build / "bin/troupe", "serve", *map(str, arguments), "--port", "0", "--log-level", "warn"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seen = ""
        for line in self.process.stdout:
            seen += line
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        else:
            sys.exit(f"troupe did not start:\n{seen}")
        os.set_blocking(self.process.stdout.fileno(), False)

    def load(self, **options):
        command = [given.build / "bin/stream_client", "--port", str(self.port)]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self.most_tokens = max(self.most_tokens, options["streams"] * (
            options["prompt_tokens"] + options["new_tokens"]) + options.get("probe_tokens", 0))
        before = self.cpu()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
        answer = json.loads(done.stdout)
        answer["server_cpu_s"] = self.cpu() - before
        return answer

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, key="VmHWM"):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(key + r":\s+(\d+) kB", text).group(1)) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Peers:
    def __init__(self):
        self.process = subprocess.Popen(
            [given.python, pathlib.Path(__file__).with_name("peers.py"), "--model", given.model],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.process.stdout.readline() or "{}")
        if not self.about:
            sys.exit(f"the peers did not start: does {given.python} have torch and transformers?")

    def run(self, engine, dtype, batch, prompt, new):
        job = {"engine": engine, "dtype": dtype, "batch": batch, "prompt": prompt, "new": new}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)


def median(values):
    return statistics.median(values)


def report(name, value, unit, target=None, note=""):
    figures[name] = {"value": value, "unit": unit, "target": target, "note": note}
    print(f"{name:58} {value:12.2f} {unit:10} {target or '':22} {note}", flush=True)


def compare(name, ours, peers, target, note=""):
    ratio = median(peers) / median(ours)
    report(name, ratio, "x", target, f"ours {median(ours):.4g}, peer {median(peers):.4g} {note}")


def interleaved(ours, *others):
    ours()
    for other in others:
        other()
    results = [[] for _ in range(1 + len(others))]
    for _ in range(given.rounds):
        for place, call in enumerate((ours, *others)):
            results[place].append(call())
    return results


def peer_figures(peers):
    threads = ["--cpu-threads", "2", "--prefix-cache", "false"]
    fp32 = Troupe(given.model, "--dtype", "fp32", *threads)
    tf = lambda field, *a: lambda: peers.run("transformers", *a)[field]

    def ct2(field, *a):
        def call():
            answer = peers.run("ctranslate2", *a)
            return answer.get(field, float("nan"))
        return call

    if wanted("decode"):
        o, t, c = interleaved(
            lambda: fp32.load(streams=1, prompt_tokens=128, new_tokens=64)["itl_ms"]["p50"],
            tf("step_ms", "fp32", 1, 128, 64), ct2("step_ms", "fp32", 1, 128, 64))
        compare("fp32 batch 1, ms between tokens, transformers / ours", o, t, ">= 2.4")
        compare("fp32 batch 1, ms between tokens, CTranslate2 / ours", o, c, ">= 1.0")
    if wanted("batch16"):
        o, t = interleaved(
            lambda: fp32.load(streams=16, prompt_tokens=128, new_tokens=64)["itl_ms"]["p50"],
            tf("step_ms", "fp32", 16, 128, 64))
        compare("fp32 batch 16, ms a step, transformers / ours", o, t, ">= 3.0")
    if wanted("prefill"):
        o, t = interleaved(
            lambda: fp32.load(streams=16, prompt_tokens=128, new_tokens=1)["all_first_tokens_s"],
            tf("first_s", "fp32", 16, 128, 2))
        compare("fp32 prompt pass 16 x 128, s, transformers / ours", o, t, ">= 1.0")
    if wanted("throughput"):
        o, t, c = interleaved(
            lambda: 1 / fp32.load(streams=16, prompt_tokens=128, new_tokens=64)["tokens_per_s"],
            lambda: (lambda r: r["total_s"] / r["tokens"])(peers.run("transformers", "fp32", 16, 128, 64)),
            lambda: (lambda r: r.get("total_s", float("nan")) / r.get("tokens", 1))(
                peers.run("ctranslate2", "fp32", 16, 128, 64)))
        compare("16 requests at once, s per token, transformers / ours", o, t, ">= 1.7",
                f"({1 / median(o):.0f} tok/s)")
        compare("16 requests at once, s per token, CTranslate2 / ours", o, c, "",
                f"({1 / median(o):.0f} tok/s)")
    if wanted("arrivals"):
        o = [fp32.load(streams=16, prompt_tokens=128, new_tokens=64, gap=0.25)["seconds"]
             for _ in range(given.rounds)]
        t = [sum(peers.run("transformers", "fp32", 1, 128, 64)["total_s"] for _ in range(16))]
        compare("16 requests 250 ms apart, s, transformers one by one / ours", o, t, ">= 6.0")
    if wanted("stall"):
        ratios, notes = [], []
        for _ in range(given.rounds):
            r = fp32.load(streams=16, prompt_tokens=32, new_tokens=400, probe_at=2, probe_tokens=2000)
            ratios.append(r["itl_during_probe_ms"]["p99"] / r["itl_ms"]["p99"])
            notes.append(r["probe_ttft_s"])
        report("p99 time between tokens while 2,000 tokens enter", median(ratios), "x", "<= 2.0",
               f"the prompt took {median(notes):.2f} s")
    if wanted("bf16"):
        half = Troupe(given.model, "--dtype", "bf16", *threads)
        full1, half1 = interleaved(
            lambda: fp32.load(streams=1, prompt_tokens=128, new_tokens=64)["itl_ms"]["p50"],
            lambda: half.load(streams=1, prompt_tokens=128, new_tokens=64)["itl_ms"]["p50"])
        compare("bf16 batch 1, ms between tokens, own fp32 / bf16", half1, full1, ">= 1.7")
        full16, half16 = interleaved(
            lambda: fp32.load(streams=16, prompt_tokens=128, new_tokens=1)["all_first_tokens_s"],
            lambda: half.load(streams=16, prompt_tokens=128, new_tokens=1)["all_first_tokens_s"])
        compare("bf16 prompt pass 16 x 128, s, own fp32 / bf16", half16, full16, ">= 1.8")
        half.stop()
    if wanted("memory"):
        status = fp32.memory()
        weights = (given.model / "model.safetensors").stat().st_size * 2 / 2**20
        config = json.loads((given.model / "config.json").read_text())
        head = config["hidden_size"] // config["num_attention_heads"]
        token = 2 * 4 * config["num_hidden_layers"] * config["num_key_value_heads"] * head
        keys = fp32.most_tokens * token / 2**20
        report("peak RSS beyond the fp32 weights and the KV pages in use", status - weights - keys, "MiB", "<= 350",
               f"RSS {status:.0f}, weights {weights:.0f}, KV of {fp32.most_tokens} tokens {keys:.0f}")
    fp32.stop()


def overhead():
    dummy = Troupe("--dummy-model", "--max-rolling-batch-size", "64", "--job-queue-size", "4096")
    rates, client, server = [], [], []
    for _ in range(given.rounds + 1):
        r = dummy.load(streams=64, prompt_tokens=16, new_tokens=8000, vocabulary=250)
        rates.append(r["tokens_per_s"])
        client.append(r["client_cpu_s"] / r["tokens"] * 1e6)
        server.append(r["server_cpu_s"] / r["tokens"] * 1e6)
    dummy.stop()
    report("dummy model, 64 streams, tokens/s", median(rates[1:]), "tok/s", ">= 150000",
           f"CPU per token: server {median(server[1:]):.2f} us, client {median(client[1:]):.2f} us")


def many_streams():
    dummy = Troupe("--dummy-model", "--max-rolling-batch-size", "2048", "--job-queue-size", "4096")
    r = dummy.load(streams=2000, prompt_tokens=16, new_tokens=200, vocabulary=250)
    dummy.stop()
    report("dummy model, 2,000 streams at once, failed", r["failed"], "streams", "= 0",
           f"{r['tokens_per_s']:.0f} tok/s")


def start():
    times = []
    for _ in range(given.rounds + 1):
        server = Troupe(given.model, "--cpu-threads", "2")
        server.load(streams=1, prompt_tokens=4, new_tokens=1)
        times.append(time.perf_counter() - server.begin)
        server.stop()
    report("process start to first answer, fp32", median(times[1:]), "s", "<= 1.5")


print(f"{'figure':58} {'value':>12} {'unit':10} {'target':22} note")
if wanted("start"):
    start()
if wanted("overhead"):
    overhead()
if wanted("streams"):
    many_streams()
if any(map(wanted, ["decode", "batch16", "prefill", "throughput", "arrivals", "stall", "bf16", "memory"])):
    peers = Peers()
    print(f"peers: torch {peers.about['torch']}, transformers {peers.about['transformers']}, 2 threads")
    peer_figures(peers)
    peers.stop()
if given.json:
    given.json.write_text(json.dumps(figures, indent=1))

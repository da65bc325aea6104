#!/usr/bin/env python3
"""Checks troupe-load against a server whose times are known, and beside other load generators.

    tests/bench/load_test/bench.py fidelity    1,000 streams: measured times equal the set ones
    tests/bench/load_test/bench.py capacity    5,000 streams, 100,000 tokens/s, one core
    tests/bench/load_test/bench.py peers       the same server measured by oha and guidellm as well
    tests/bench/load_test/bench.py peers --url http://127.0.0.1:8080     ... a server that runs already

Client and server are kept on cores of their own where there are two or more, but not beside peers. Prints the figures and
what they are held to; the exit code is 1 when one does not hold. Standard library only.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
PEERS = ROOT / ".cache/load-peers"


PINS = True


def pinned(cores):
    usable = sorted(os.sched_getaffinity(0))
    if not PINS or shutil.which("taskset") is None or len(usable) < 2:
        return []
    if cores == "client":
        return ["taskset", "-c", str(usable[0])]
    return ["taskset", "-c", ",".join(map(str, usable[1:5]))]


def machine():
    model = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        "?",
    )
    return f"{len(os.sched_getaffinity(0))} cores, {model}, load {open('/proc/loadavg').read().split()[0]}"


@contextlib.contextmanager
def mock(binary, settings):
    process = subprocess.Popen(
        [*pinned("server"), str(binary), "mock", settings, "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        yield re.search(r"http://\S+?:\d+", process.stdout.readline()).group(0)
    finally:
        process.terminate()
        process.wait()


def troupe_load(binary, *arguments):
    command = [*pinned("client"), str(binary), *map(str, arguments), "--quiet", "--json", "-"]
    print("  $", " ".join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


class Checks:
    def __init__(self):
        self.failed = 0

    def __call__(self, name, value, limit, unit="", at_least=False):
        holds = value >= limit if at_least else value <= limit
        self.failed += not holds
        print(f"  {'holds ' if holds else 'FAILS '} {name}: {value:,.3f} {unit} "
              f"({'at least' if at_least else 'at most'} {limit:,} {unit})")


def fidelity(binary, checks):
    ttft, itl = 200, 50
    print(f"fidelity: 1,000 streams, ttft {ttft} ms, itl {itl} ms; {machine()}")
    with mock(binary, f"ttft={ttft}ms,itl={itl}ms,threads=2") as url:
        r = troupe_load(
            binary, url, "--users", 1000, "--ramp-up", "5s", "--warmup", "6s", "--duration", "20s",
            "--input-tokens", 32, "--output-tokens", 96,
        )
    errors = sum(r["errors"].values())
    checks("errors", errors, 0)
    for name, set_ms in [("ttft_ms", ttft), ("itl_ms", itl)]:
        checks(f"{name}: median off by", abs(r[name]["p50"] - set_ms), 1, "ms")
        checks(f"{name}: p99 off by", abs(r[name]["p99"] - set_ms), 5, "ms")
    checks("send_lateness_ms.p99", r["send_lateness_ms"]["p99"], 2, "ms")
    print(f"  {r['output_tokens_per_s']:,.0f} tokens/s, {r['generator']['cpu_share']:.2f} of one core, "
          f"{r['itl_ms']['count']:,} gaps")


def capacity(binary, checks):
    print(f"capacity: 5,000 streams, 100,000 tokens/s, one worker; {machine()}")
    # 500 arrivals a second that stay for 10 s each; a little more, so that 100,000 are exceeded.
    with mock(binary, "ttft=50ms,itl=50ms,threads=2") as url:
        r = troupe_load(
            binary, url, "--rate", 520, "--arrivals", "poisson", "--warmup", "12s", "--duration", "15s",
            "--input-tokens", 16, "--output-tokens", 200, "--workers", 1,
        )
    checks("errors", sum(r["errors"].values()), 0)
    checks("output_tokens_per_s", r["output_tokens_per_s"], 100_000, "tokens/s", at_least=True)
    streams = statistics.median(r["blocks"]["active"])
    checks("streams at once, median", streams, 5000, at_least=True)
    checks("send_lateness_ms.p99", r["send_lateness_ms"]["p99"], 2, "ms")
    share = r["generator"]["cpu_share"]
    print(f"  {share:.2f} of one core: {share * 1e6 / r['output_tokens_per_s']:.2f} us a token; itl p50 "
          f"{r['itl_ms']['p50']:.2f}, p99 {r['itl_ms']['p99']:.2f} ms")


def oha(url, body, users, requests):
    binary = PEERS / "oha/bin/oha"
    command = [
        *pinned("client"), str(binary), "--no-tui", "--output-format", "json", "-n", str(requests),
        "-c", str(users), "-m", "POST", "-H", "content-type: application/json", "-d", body,
        url + "/v1/chat/completions",
    ]
    print("  $", " ".join(command)[:160], flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    r = json.loads(done.stdout)
    p = r["latencyPercentiles"]
    return {"p50": p["p50"] * 1e3, "p99": p["p99"] * 1e3, "rate": r["summary"]["requestsPerSec"]}


def guidellm(url, users, seconds, tokens_in, tokens_out, model):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "benchmarks.json"
        command = [
            *pinned("client"), str(PEERS / "guidellm/bin/guidellm"), "run", "--disable-console",
            "--backend", f"kind=openai_http,target={url}", "--profile",
            f"kind=concurrent,streams={users}", "--constraint", f"kind=max_duration,seconds={seconds}",
            "--data", f"kind=synthetic_text,prompt_tokens={tokens_in},output_tokens={tokens_out}",
            "--tokenizer", f"kind=hf_auto,model={model}", "--output", f"kind=json,path={out}",
        ]
        print("  $", " ".join(command), flush=True)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode != 0:
            sys.exit("guidellm failed: " + done.stdout[-2000:])
        metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]

    def figure(name):
        s = metrics[name]["successful"]
        return {"p50": s["median"], "p99": s["percentiles"]["p99"], "mean": s["mean"]}

    return {
        "ttft_ms": figure("time_to_first_token_ms"),
        "itl_ms": figure("inter_token_latency_ms"),
        "output_tokens_per_s": figure("output_tokens_per_second")["mean"],
    }


def spread(values):
    return f"{statistics.median(values):9.2f} [{min(values):.2f} .. {max(values):.2f}]"


def beside_oha(binary, url, rounds):
    users, requests = 16, 400
    body = json.dumps({
        "messages": [{"role": "user", "content": "the " * 30}], "max_tokens": 8, "stream": False,
        "ignore_eos": True, "temperature": 0,
    })
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(oha(url, body, users, requests))
        r = troupe_load(
            binary, url, "--no-stream", "--users", users, "--requests", requests, "--input-tokens", 60,
            "--output-tokens", 8,
        )
        ours.append({"p50": r["e2e_ms"]["p50"], "p99": r["e2e_ms"]["p99"], "rate": r["requests_per_s"]})
    print(f"  whole answers, {users} at once, {rounds} rounds: median [lowest .. highest]")
    for name in ["p50", "p99", "rate"]:
        print(f"    {name:5} troupe-load {spread([x[name] for x in ours])}   "
              f"oha {spread([x[name] for x in theirs])}")


def beside_guidellm(binary, url, rounds, model):
    users, seconds, tokens_in, tokens_out = 8, 15, 64, 32
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(guidellm(url, users, seconds, tokens_in, tokens_out, model))
        ours.append(troupe_load(
            binary, url, "--users", users, "--duration", seconds, "--input-tokens", tokens_in,
            "--output-tokens", tokens_out,
        ))
    print(f"  streams, {users} at once, {rounds} rounds: median [lowest .. highest]")
    # What guidellm calls inter-token latency is a request's mean: our time per output token.
    for name, theirs_name in [("ttft_ms", "ttft_ms"), ("tpot_ms", "itl_ms")]:
        for p in ["p50", "p99"]:
            print(f"    {name}.{p} troupe-load {spread([x[name][p] for x in ours])}   "
                  f"guidellm {spread([x[theirs_name][p] for x in theirs])}")
    name = "output_tokens_per_s"
    print(f"    {name} troupe-load {spread([x[name] for x in ours])}   "
          f"guidellm {spread([x[name] for x in theirs])}")


def peers(binary, url, rounds, model):
    # guidellm is several processes: on one core it would measure itself.
    global PINS
    PINS = False
    print(f"peers; {machine()}")
    with contextlib.ExitStack() as stack:
        url = url or stack.enter_context(mock(binary, "ttft=30ms,itl=10ms,threads=2"))
        if (PEERS / "oha/bin/oha").exists():
            beside_oha(binary, url, rounds)
        else:
            print(f"  oha is missing: cargo install oha --locked --root {PEERS}/oha")
        if (PEERS / "guidellm/bin/guidellm").exists():
            beside_guidellm(binary, url, rounds, model)
        else:
            print(f"  guidellm is missing: python3 -m venv {PEERS}/guidellm && "
                  f"{PEERS}/guidellm/bin/pip install guidellm")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["fidelity", "capacity", "peers", "all"])
    parser.add_argument("--binary", default=ROOT / "build/release/bin/troupe-load", type=pathlib.Path)
    parser.add_argument("--url", help="for peers: a server that runs, in place of the mock")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--model", default=ROOT / ".cache/models/SmolLM2-135M-Instruct",
                        help="folder whose tokenizer guidellm counts with")
    given = parser.parse_args()
    checks = Checks()
    if given.what in ("fidelity", "all"):
        fidelity(given.binary, checks)
    if given.what in ("capacity", "all"):
        capacity(given.binary, checks)
    if given.what in ("peers", "all"):
        peers(given.binary, given.url, given.rounds, given.model)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()

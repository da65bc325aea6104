"""Several GPUs: the same bits on 1, 2 and 4, then layer shards beside Accelerate's and beside our own mode with one
step in flight. four_gpus_8b.py and four_gpus_70b.py run it; by hand:

    python3 FOLDER/several_gpus.py [--model 8b] [--gpus 2] [--only PART]
"""

import argparse
import json
import pathlib
import subprocess

import rig
import shapes
from rig import OUT, PROGRAMS, Peer, Troupe, environment, guarded, note

PARTS = ["tiny", "bits", "decode", "in_flight", "prompts", "peer"]
# Decode tok/s of HF Accelerate on four H200s and what is to be reached, by batch.
TARGETS = {"8b": {128: (4462, 20000)}, "70b": {1: (4.5, 24), 64: (298, 1400), 128: (555, 2800), 256: (None, 5000)}}
# Ours over our own mode with one step in flight.
RATIOS = {"batch 128": 1.15, "batch 512": 1.8, "64 x 1024 prompts": 3.2}


class Bench:
    def __init__(self, arguments=None):
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--model", choices=sorted(shapes.SHAPES), default="8b")
        parser.add_argument("--gpus", type=int, default=2)
        parser.add_argument("--batch", type=int, action="append", help="default 1, 64, 128, 256")
        parser.add_argument("--only", action="append", choices=PARTS)
        parser.add_argument("--seconds", type=float, default=500, help="parts that would begin later are left out")
        parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/troupe-gpu"))
        parser.add_argument("--flag", action="append", default=[], help="further flag of troupe serve")
        self.given = parser.parse_args(arguments)
        self.figures = {}
        rig.FLAGS += self.given.flag
        self.given.work.mkdir(parents=True, exist_ok=True)
        self.folder = shapes.write_folder(self.given.work / self.given.model, self.given.model,
                                          PROGRAMS / "tokenizer/tokenizer.json")
        self.batches = self.given.batch or [1, 64, 128, 256]
        self.whole = self.given.model != "70b"  # One GPU holds it.
        self.peer = None

    def wanted(self, part):
        if self.given.only and part not in self.given.only:
            return False
        if rig.elapsed() > self.given.seconds:
            print(f"{part}: left out, the time is up", flush=True)
            return False
        return True

    def keep(self, name, value):
        self.figures[name] = value
        (OUT / f"several-{self.given.model}.json").write_text(json.dumps(self.figures, indent=1))

    def serve(self, name, shards, *flags, batch=512):
        server = Troupe(name, self.folder, "--load-format", "dummy", "--max-model-len", 4096, "--max-rolling-batch-size",
                        batch, "--tensor-parallel-degree", shards, "--devices", ";".join(map(str, range(shards))),
                        "--model-loading-timeout", 200, *flags)  # One copy, whatever else there is.
        if server.port is None:
            return None
        note(f"{name}: ready after {server.ready_s:.1f} s; GPU memory {server.memory_of_gpu()} MiB")
        return server

    def tiny(self):
        done = subprocess.run([PROGRAMS / "bin/models_cuda_backend_test"], capture_output=True, text=True,
                              env=environment(), timeout=200)
        note("tiny models: " + (done.stdout.strip().splitlines() or ["died"])[-1])
        if done.returncode != 0:
            print(done.stdout[-3000:], flush=True)

    def bits(self):
        """One request at a time, prompts in one piece: the same rows in each step, whatever the number of shards."""
        answers = {}
        for shards in [n for n in (1, 2, 4) if n <= self.given.gpus and (self.whole or n > 1)]:
            server = self.serve(f"bits-{shards}", shards, batch=8)
            if server is None:
                continue
            answers[shards] = [
                server.ask({"model": "m", "prompt": [7 + i] * (60 + 90 * i), "max_tokens": 48, "temperature": t, "seed": 3,
                            "logprobs": 2})["choices"][0] for i, t in enumerate((0, 0, 0.8))]
            server.stop()
        same = all(a == next(iter(answers.values())) for a in answers.values())
        self.keep("bits", {"shards": sorted(answers), "same": same and len(answers) > 1})
        note(f"bits: {self.figures['bits']}")

    def load(self, server, name, batch, new=128, prompt=128):
        server.load(streams=batch, prompt_tokens=prompt, new_tokens=24, seed=batch)
        rounds = [server.load(streams=batch, prompt_tokens=prompt, new_tokens=new, seed=batch + i) for i in (1, 2)]
        rounds = [r for r in rounds if r]
        if not rounds:
            return
        best = sorted(rounds, key=lambda r: r["decode_tokens_per_s"])[len(rounds) // 2]
        best["all"] = [r["decode_tokens_per_s"] for r in rounds]
        self.keep(name, best)
        note(f"{name}: decode {best['all']} tok/s, all first tokens {best['all_first_tokens_s'] * 1e3:.0f} ms, "
             f"cpu {best['cpu_us_per_token']:.1f} us/token")

    def prompts(self, server, name):
        """64 prompts of 1,024 tokens: prompt tokens a second until the last first token. One token each: prompts that
        are through would go on as streams, which the scheduler protects from the prompts of others."""
        server.load(streams=64, prompt_tokens=1024, new_tokens=1, seed=5)
        spent = sorted(server.load(streams=64, prompt_tokens=1024, new_tokens=1, seed=6 + i).get("all_first_tokens_s", 0)
                       for i in range(3))[1]
        self.keep(name, {"prompt_tokens_per_s": 64 * 1024 / spent if spent else 0})
        note(f"{name}: {self.figures[name]['prompt_tokens_per_s']:.0f} prompt tok/s")

    def ours(self, name, *flags, batches):
        server = self.serve(name.replace(" ", "-"), self.given.gpus, *flags)
        if server is None:
            return
        for line in server.seen.splitlines():
            if "GPU" in line or "KV cache" in line:
                print("      " + line[-170:], flush=True)
        for batch in batches:
            guarded(f"{name}, batch {batch}", self.load, server, f"{name}, batch {batch}", batch)
        if self.given.model == "8b" and self.wanted("prompts"):
            guarded(f"{name}, prompts", self.prompts, server, f"{name}, 64 x 1024 prompts")
        server.stop()

    def measure_peer(self):
        self.peer("load", config=str(self.folder), balanced=True, within=200)
        new = 24 if self.given.model == "70b" else 96
        for batch in (1, 64, 128):
            if rig.elapsed() > self.given.seconds + 30:
                break
            answer = self.peer("decode", batch=batch, prompt=128, new=new, within=120)
            self.keep(f"peer, batch {batch}", answer)
            note(f"peer, batch {batch}: {answer}")

    def table(self):
        weight_bytes = 2 * shapes.parameters(self.given.model)
        bandwidth = self.figures.get("copy", {}).get("bytes_per_s", 0)
        print(f"\n{self.given.model} on {self.given.gpus} GPUs, decode tok/s"
              f"\n{'batch':>6} {'peer':>9} {'peer of gpu.md':>15} {'ours':>9} {'ratio':>6} {'floor':>7} {'to reach':>9} "
              f"{'one in flight':>14} {'ratio':>6}")
        for batch in sorted(set(self.batches) | {512}):
            ours = self.figures.get(f"ours, batch {batch}", {}).get("decode_tokens_per_s", 0)
            one = self.figures.get(f"one in flight, batch {batch}", {}).get("decode_tokens_per_s", 0)
            peer = self.figures.get(f"peer, batch {batch}", {}).get("decode_tokens_per_s", 0)
            before, goal = TARGETS.get(self.given.model, {}).get(batch, (None, None))
            if not ours and not peer:
                continue
            share = ours / batch * weight_bytes / bandwidth if bandwidth else 0
            print(f"{batch:6} {peer:9.1f} {before or 0:15} {ours:9.1f} {ours / peer if peer else 0:6.2f} {share:7.1%} "
                  f"{goal or 0:9} {one:14.1f} {ours / one if one else 0:6.2f}")
        for name, least in RATIOS.items():
            key = "prompt_tokens_per_s" if "prompts" in name else "decode_tokens_per_s"
            a = self.figures.get(f"ours, {name}", {}).get(key, 0)
            b = self.figures.get(f"one in flight, {name}", {}).get(key, 0)
            if a and b:
                print(f"{name}: {a:.0f} against {b:.0f} with one step in flight: {a / b:.2f} (to reach: {least})")
        if "bits" in self.figures:
            print(f"bits: {self.figures['bits']}")

    def run(self):
        print(subprocess.run([PROGRAMS / "bin/troupe", "devices"], capture_output=True, text=True,
                             env=environment()).stdout, flush=True)
        try:
            if self.wanted("peer"):
                self.peer = Peer()
                self.keep("about", self.peer.about)
                self.keep("copy", self.peer("copy"))
                self.peer.stop()
                self.peer = None
            if self.wanted("tiny"):
                guarded("tiny", self.tiny)
            if self.wanted("bits"):
                guarded("bits", self.bits)
            more = [512] if self.given.model == "8b" else []
            if self.wanted("decode"):
                guarded("ours", lambda: self.ours("ours", batches=self.batches + more))
            if self.wanted("in_flight"):
                guarded("one in flight", lambda: self.ours("one in flight", "--steps-in-flight", 1,
                                                           batches=[b for b in self.batches if b >= 128] + more))
            if self.wanted("peer"):
                self.peer = Peer()
                guarded("peer", self.measure_peer)
        finally:
            self.table()
            if self.peer is not None:
                self.peer.stop()


if __name__ == "__main__":
    Bench().run()

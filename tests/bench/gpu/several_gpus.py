#!/usr/bin/env python3
"""Two or more GPUs: the same bits as on one, then layer shards beside one step in flight.

    python3 FOLDER/several_gpus.py [--model 8b] [--gpus 2]
"""

import argparse
import json
import pathlib
import subprocess

import rig
import shapes
from rig import OUT, PROGRAMS, Peer, Troupe, environment, note

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", choices=sorted(shapes.SHAPES), default="8b")
parser.add_argument("--gpus", type=int, default=2)
parser.add_argument("--batch", type=int, action="append", help="default 1, 64, 128, 256")
parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/troupe-gpu"))
given = parser.parse_args()
figures = {}


def serve(name, shards, *flags):
    return Troupe(name, folder, "--load-format", "dummy", "--max-model-len", 4096, "--max-rolling-batch-size", 256,
                  "--tensor-parallel-degree", shards, *flags)


def ask(server):
    return [server.ask({"model": "m", "prompt": [7 + i] * (60 + 90 * i), "max_tokens": 48, "temperature": t, "seed": 3,
                        "logprobs": 2})["choices"][0] for i, t in enumerate((0, 0, 0.8))]


def measure(name, server):
    for batch in given.batch or (1, 64, 128, 256):
        server.load(streams=batch, prompt_tokens=128, new_tokens=24, seed=batch)
        answer = server.load(streams=batch, prompt_tokens=128, new_tokens=128, seed=batch + 1)
        figures[f"{name}, batch {batch}"] = answer
        note(f"{name}, batch {batch}: decode {answer.get('decode_tokens_per_s', 0):.0f} tok/s, all first tokens "
             f"{answer.get('all_first_tokens_s', 0) * 1e3:.0f} ms, whole {answer.get('tokens_per_s', 0):.0f} tok/s")


folder = shapes.write_folder(given.work / given.model, given.model, PROGRAMS / "tokenizer/tokenizer.json")
done = subprocess.run([PROGRAMS / "bin/models_cuda_backend_test"], capture_output=True, text=True, env=environment())
note("tiny models: " + (done.stdout.strip().splitlines() or ["died"])[-1])
if done.returncode != 0:
    print(done.stdout[-3000:])
print(subprocess.run([PROGRAMS / "bin/troupe", "devices"], capture_output=True, text=True, env=environment()).stdout)
one = serve("one", 1) if given.model != "70b" else None
expected = ask(one) if one is not None and one.port else None
if one is not None:
    measure("1 GPU", one)
    one.stop()
several = serve("several", given.gpus)
if several.port:
    for line in several.seen.splitlines():
        if "GPU" in line or "KV cache" in line:
            print("      " + line[-170:])
    if expected is not None:
        figures["bits"] = "same" if ask(several) == expected else "DIFFERENT"
        note(f"1 and {given.gpus} shards: {figures['bits']} bits")
    measure(f"{given.gpus} GPUs", several)
several.stop()
(OUT / "several.json").write_text(json.dumps(figures, indent=1))
peer = Peer()
peer("load", config=str(folder), balanced=True)
for batch in (1, 64):
    figures[f"peer, batch {batch}"] = peer("decode", batch=batch, prompt=128, new=128)
    note(f"peer, batch {batch}: {figures[f'peer, batch {batch}']}")
peer.stop()
(OUT / "several.json").write_text(json.dumps(figures, indent=1))

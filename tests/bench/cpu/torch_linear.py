"""Speed of torch's linear (oneDNN / MKL) on the shapes that bench_kernels measures, in its format.

Usage: python torch_linear.py [threads] [fp32|bf16]. With --pair BENCH it runs BENCH (the bench_kernels
program) and torch in turns, three times, so that both meet the same neighbours on the machine.
"""
import statistics
import subprocess
import sys
import time

import torch

SHAPES = [("qkv", 960, 576), ("o", 576, 576), ("gate_up", 3072, 576), ("down", 576, 1536)]


def median_time(f, budget=0.3):
    f()
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < budget or len(times) < 5:
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@torch.inference_mode()
def measure(dtype_name):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype_name]
    layers = [[torch.randn(n, k).to(dtype) for _, n, k in SHAPES] for _ in range(30)]
    inputs = {k: torch.randn(512, k).to(dtype) for k in (576, 1536)}
    size = sum(w.numel() * w.element_size() for layer in layers for w in layer)
    linear = torch.nn.functional.linear
    for rows in (1, 4, 16, 64):

        def step():
            for layer in layers:
                for w in layer:
                    linear(inputs[w.shape[1]][:rows], w)

        t = median_time(step)
        print(f"  {dtype_name} layers  {rows:3} rows {t * 1e3:8.2f} ms {size / t * 1e-9:6.1f} GB/s")
    for rows in (128, 512):
        total = work = 0
        for w, (name, n, k) in zip(layers[0], SHAPES):
            t = median_time(lambda: linear(inputs[k][:rows], w), 0.2)
            total += t
            work += 2 * rows * n * k
            print(f"  {dtype_name} {name:7} {rows:3} rows {t * 1e3:8.3f} ms {2 * rows * n * k / t * 1e-9:7.1f} GFLOP/s")
        print(f"  {dtype_name} all     {rows:3} rows {total * 1e3:8.3f} ms {work / total * 1e-9:7.1f} GFLOP/s")


def main():
    arguments = sys.argv[1:]
    bench = None
    if "--pair" in arguments:
        at = arguments.index("--pair")
        bench = arguments[at + 1]
        del arguments[at : at + 2]
    threads = int(arguments[0]) if arguments else 2
    torch.set_num_threads(threads)
    for _ in range(3 if bench else 1):
        if bench:
            subprocess.run([bench, str(threads)] + arguments[2:], check=True)
        print(f"torch {torch.__version__}, {threads} threads", flush=True)
        for name in arguments[1:2] or ["fp32", "bf16"]:
            measure(name)


main()

#!/usr/bin/env python3
"""Llama-3.1-70B shapes on four GPUs: checks, then Troupe over HTTP beside Accelerate, in one run of under nine minutes.

    tests/bench/gpu/gather FOLDER          on the machine that builds
    python3 FOLDER/four_gpus_70b.py        on the machine with the GPUs and torch
"""

import sys

from several_gpus import Bench

Bench(["--model", "70b", "--gpus", "4", *sys.argv[1:]]).run()

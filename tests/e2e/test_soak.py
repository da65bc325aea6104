"""Minutes of mixed load on the real model: answers stay right, nothing is left behind.

Only in `make test-long`: TROUPE_SOAK_SECONDS says how long.
"""

import asyncio
import os
import pathlib
import random
import re
import time

import httpx
import pytest
from conftest import MODEL

SECONDS = float(os.environ.get("TROUPE_SOAK_SECONDS", "0"))
pytestmark = pytest.mark.skipif(SECONDS == 0, reason="long: set TROUPE_SOAK_SECONDS, or run `make test-long`")

GAUGES = ("troupe_requests_running", "troupe_requests_waiting", "troupe_kv_blocks_used")


def memory_of(server):
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


async def gauges_of(client):
    lines = (await client.get("/metrics")).text.splitlines()
    found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(GAUGES)]
    assert found
    return found


async def answer(client, prompt, tokens):
    got = await client.post("/invocations", json={"inputs": prompt, "parameters": {"max_new_tokens": tokens}})
    assert got.status_code == 200, got.text
    return got.json()["generated_text"]


async def leave_early(client, prompt):
    body = {"prompt": prompt, "max_tokens": 400, "stream": True, "temperature": 0.9}
    async with client.stream("POST", "/v1/completions", json=body) as stream:
        async for _ in stream.aiter_lines():
            if random.random() < 0.3:
                return


async def bad_input(client):
    got = await client.post("/invocations", json={"inputs": "x", "parameters": {"top_p": 7}})
    assert got.status_code == 424


async def soak(server):
    prompts = [("Story %d. Once upon a time " % i) * random.Random(i).randint(1, 40) for i in range(24)]
    async with httpx.AsyncClient(base_url=server.url, timeout=120,
                                 limits=httpx.Limits(max_connections=48)) as client:
        expected = {}
        for prompt in prompts:
            expected[prompt] = await answer(client, prompt, 12)
        end = time.monotonic() + SECONDS
        after_warm_up = None
        rounds = 0
        while time.monotonic() < end:
            work = []
            for _ in range(24):
                kind = random.random()
                prompt = random.choice(prompts)
                if kind < 0.6:
                    async def compare(prompt=prompt):
                        assert await answer(client, prompt, 12) == expected[prompt]
                    work.append(compare())
                elif kind < 0.9:
                    work.append(leave_early(client, prompt))
                else:
                    work.append(bad_input(client))
            await asyncio.gather(*work)
            rounds += 1
            if after_warm_up is None and time.monotonic() > end - SECONDS / 2:
                after_warm_up = memory_of(server)
        for _ in range(200):
            if sum(await gauges_of(client)) == 0:
                break
            await asyncio.sleep(0.05)
        assert await gauges_of(client) == [0] * len(await gauges_of(client))
        assert rounds > 1
        assert memory_of(server) < after_warm_up * 1.05 + 20


@pytest.mark.parametrize("flags", [
    ["--kv-cache-bytes", "48M", "--max-rolling-batch-size", "16"],  # forces preemption
    ["--tensor-parallel-degree", "2"],
])
def test_mixed_load_leaves_answers_right_and_nothing_behind(start, flags):
    server = start(MODEL, *flags)
    asyncio.run(soak(server))
    assert server.stop() == 0

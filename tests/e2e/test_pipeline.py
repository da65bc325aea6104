"""Without rolling batch: calls in batches of their own, in the form of a transformers pipeline."""

import concurrent.futures
import json
import subprocess
import time

import httpx

from conftest import BINARY, MODEL

ALONE = ("--rolling-batch", "disable")


def ask(server, inputs, **parameters):
    return httpx.post(server.url + "/invocations", timeout=60, json={"inputs": inputs, "parameters": parameters})


def test_calls_wait_for_each_other_and_say_what_they_say_alone(start):
    server = start(MODEL, *ALONE, "-o", "batch_size=2", "-o", "max_batch_delay=300")
    prompts = ["Snow covers", "Bees make", "The sea is"]
    begin = time.monotonic()
    alone = [ask(server, prompt, max_new_tokens=6).json() for prompt in prompts]
    assert time.monotonic() - begin > 0.9, "each has waited for a second call"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: ask(server, prompt, max_new_tokens=6).json(), prompts * 4))
    assert together == alone * 4
    listed = ask(server, prompts, max_new_tokens=6).json()
    assert [[one] for one in listed] == alone
    wrong = [ask(server, "x", max_new_tokens=0), ask(server, [], max_new_tokens=3), ask(server, "x", n_beams=2)]
    wrong.append(httpx.post(server.url + "/invocations", content=b"{no JSON"))
    assert [answer.status_code for answer in wrong] == [424] * 4
    assert all(set(answer.json()) == {"code", "message", "error"} for answer in wrong)
    chat = httpx.post(server.url + "/invocations", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert chat.status_code == 424 and "batch_size=1" in chat.text


def test_bodies_of_other_kinds_are_lists_of_prompts(start):
    server = start(MODEL, *ALONE)
    url = server.url + "/invocations"
    expected = ask(server, ["Snow covers", "Bees, make"]).json()
    csv = httpx.post(url, content='id,inputs\n1,Snow covers\n2,"Bees, make"\n', headers={"content-type": "text/csv"})
    assert csv.json() == expected
    table = httpx.post(url, json={"inputs": "Snow covers"}, headers={"accept": "text/csv"})
    assert table.headers["content-type"] == "text/csv"
    assert table.text.startswith("generated_text\r\n")
    plain = httpx.post(url, content="Snow covers", headers={"content-type": "text/plain"})
    assert plain.json() == expected[:1]
    chat = httpx.post(url, timeout=60, json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    assert chat.json()["choices"][0]["message"]["content"]


def test_the_old_way_of_streaming_adds_up_to_the_whole_text(start):
    server = start(MODEL, *ALONE, "-o", "option.enable_streaming=huggingface")
    lines = [json.loads(line) for line in ask(server, ["Snow covers", "Bees make"], max_new_tokens=6).text.splitlines()]
    assert lines[0] == {"outputs": ["Snow covers", "Bees make"]}
    streamed = ["".join(line["outputs"][i] for line in lines) for i in range(2)]
    whole = start(MODEL, *ALONE)
    assert [one["generated_text"] for one in ask(whole, ["Snow covers", "Bees make"], max_new_tokens=6).json()] == streamed


def test_a_stream_of_one_call_does_not_go_with_batches_of_several():
    done = subprocess.run([str(BINARY), "serve", str(MODEL), "--port", "0", *ALONE, "-o", "batch_size=2",
                           "-o", "option.enable_streaming=true"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot be with batch_size > 1" in done.stdout + done.stderr

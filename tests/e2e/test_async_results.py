"""Results that are fetched later, from the real binary (contract http.md §4.7)."""

import json
import time
import urllib.error
import urllib.request


def call(url, body=None, **headers):
    data = b"" if body is None else json.dumps(body).encode()
    ask = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(ask, timeout=30) as answer:
            return answer.status, answer.reason, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.reason, error.headers, error.read().decode()


def fetch(url, token, most=None):
    """The items of a result, in pieces of `most`."""
    pieces, seconds = [], time.monotonic() + 30
    while token:
        assert time.monotonic() < seconds
        more = {"x-max-items": str(most)} if most else {}
        status, reason, headers, text = call(url, **{"x-starting-token": token}, **more)
        token = headers["x-next-token"]
        if status == 202:
            assert reason == "The model result is not yet available" and text == ""
            time.sleep(0.01)
            continue
        assert status == 200, text
        pieces.append(text)
    return pieces


def submit(url, body):
    status, _, headers, text = call(url, body, **{"x-synchronous": "false"})
    token = headers["x-next-token"]
    assert (status, text) == (200, "") and len(token) == 36
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == f"x-next-token={token}"
    return token


def test_a_plain_answer_is_fetched_whole(server):
    url = server.url + "/invocations"
    ask = {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 6, "details": True}}
    assert fetch(url, submit(url, ask)) == [call(url, ask)[3]]


def test_a_stream_is_fetched_by_its_lines(server):
    url = server.url + "/invocations"
    ask = {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 12}, "stream": True}
    streamed = call(url, ask)[3]
    token = submit(url, ask)
    pieces = fetch(url, token, most=5)
    assert "".join(pieces) == streamed
    assert all(1 <= piece.count("\n") <= 5 for piece in pieces)
    # It stays for whoever asks again, also for a part of it.
    assert "".join(fetch(url, token)) == streamed
    assert "".join(fetch(url, token + "10")) == "".join(streamed.splitlines(keepends=True)[10:])


def test_what_cannot_be_fetched_is_told(start):
    server = start("--dummy-model", env={"SERVING_MEMORY_CACHE_CAPACITY": "2"})
    url = server.url + "/invocations"
    status, _, _, text = call(url, **{"x-starting-token": "nonsense"})
    assert status == 400 and "Invalid x-starting-token: nonsense" in text
    ask = {"inputs": "Hi", "parameters": {"max_new_tokens": 2}}
    first, *others = [submit(url, ask) for _ in range(3)]
    assert call(url, **{"x-starting-token": first})[0] == 400
    assert all(fetch(url, token) for token in others)
    failing = submit(url, {"inputs": "word " * 100_000, "parameters": {"max_new_tokens": 2}})
    end = time.monotonic() + 30
    while (answer := call(url, **{"x-starting-token": failing}))[0] == 202:
        assert time.monotonic() < end
    assert answer[0] == 500 and "too long" in answer[1]


def test_chunks_hold_several_items(start):
    server = start("--dummy-model", env={"SERVING_CACHE_BATCH": "4"})
    url = server.url + "/invocations"
    ask = {"inputs": "Hi", "parameters": {"max_new_tokens": 10, "ignore_eos": True}, "stream": True}
    pieces = fetch(url, submit(url, ask))
    counts = [piece.count("\n") for piece in pieces]
    assert sum(counts) == 10 and all(n % 4 == 0 for n in counts[:-1])

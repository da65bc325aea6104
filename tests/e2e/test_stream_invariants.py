"""Whatever the form of an answer, it says the same (contract generation.md §6)."""

import json
import random
import urllib.request

import pytest
from conftest import Server

PROMPTS = [
    "Once upon a time",
    "Der Fluß fließt über die Brücke, 東京 und 👩‍👩‍👧",
    "def main():\n    print(\"",
    "1, 2, 3,",
]


@pytest.fixture(scope="module", params=["model", "dummy"])
def running(request):
    if request.param == "model":
        running = request.getfixturevalue("server")
    else:
        running = Server("--dummy-model")
        request.addfinalizer(running.stop)
    running.dummy = request.param == "dummy"
    return running


def post(server, path, body):
    ask = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return answer.read().decode()


def records(text, end):
    assert text.endswith(end)
    for record in text.split(end)[:-1]:
        record = record.removeprefix("data:").strip()
        if record != "[DONE]":
            yield json.loads(record)


def lmi_whole(text):
    answer = json.loads(text)
    answer = answer[0] if isinstance(answer, list) else answer
    details = answer["details"]
    tokens = [(t["id"], t.get("log_prob", t.get("logprob"))) for t in details["tokens"]]
    return answer["generated_text"], details["finish_reason"], details["generated_tokens"], tokens


def lmi_lines(text, end):
    lines = list(records(text, end))
    tokens = [line["token"] for line in lines]
    answer = lines[-1]["generated_text"]
    assert "".join(t["text"] for t in tokens) == answer
    details = lines[-1]["details"]
    assert details["generated_tokens"] == len(lines)
    listed = [(t["id"], t.get("log_prob", t.get("logprob"))) for t in tokens]
    return answer, details["finish_reason"], len(lines), listed


def logprobs_of(choice):
    given = choice["logprobs"] or {}
    if "content" in given:
        return [one["logprob"] for one in given["content"]]
    return given.get("token_logprobs", [])


def openai_whole(text):
    answer = json.loads(text)
    choice = answer["choices"][0]
    content = choice["text"] if "text" in choice else choice["message"]["content"]
    return content, choice["finish_reason"], answer["usage"], logprobs_of(choice)


def openai_chunks(text):
    content, reasons, usage, logprobs = "", [], None, []
    for chunk in records(text, "\n\n"):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            content += choice["text"] if "text" in choice else choice["delta"].get("content", "")
            logprobs += logprobs_of(choice)
            if choice["finish_reason"]:
                reasons.append(choice["finish_reason"])
    assert len(reasons) == 1
    return content, reasons[0], usage, logprobs


def trials(server):
    """Prompts with parameters: stop strings out of what the model says, so that some match."""
    chance = random.Random(11)
    # A real model takes its time, the dummy none.
    prompts, tokens = (PROMPTS, 24) if server.dummy else (PROMPTS[:2], 10)
    for prompt in prompts:
        sample = {"do_sample": True, "temperature": 1.3, "seed": chance.randrange(2**32)}
        for how in ({}, sample):
            base = {"max_new_tokens": tokens, "ignore_eos": chance.random() < 0.5, **how}
            said = lmi_whole(
                post(server, "/invocations", {"inputs": prompt, "parameters": {**base, "details": True}})
            )[0]
            at = chance.randrange(max(len(said) - 3, 1))
            for stop in ([], [said[at : at + 3] or "x"], [said[at : at + 2] + "é", "never"]):
                yield prompt, {
                    **base,
                    "stop": stop,
                    "include_stop_str_in_output": chance.random() < 0.5,
                    "skip_special_tokens": chance.random() < 0.5,
                }


def test_lmi_and_tgi_forms_say_the_same(running):
    stopped = 0
    for prompt, parameters in trials(running):
        ask = {"inputs": prompt, "parameters": {**parameters, "details": True}}
        plain = lmi_whole(post(running, "/invocations", ask))
        stopped += plain[1] == "stop_sequence"
        stream = {**ask, "stream": True}
        assert lmi_lines(post(running, "/invocations", stream), "\n") == plain
        stream["parameters"] = {**stream["parameters"], "output_formatter": "sse"}
        assert lmi_lines(post(running, "/invocations", stream), "\n\n") == plain
        assert lmi_whole(post(running, "/generate", ask)) == plain
        assert lmi_whole(post(running, "/", ask)) == plain
        assert lmi_lines(post(running, "/generate_stream", ask), "\n\n") == plain
    assert stopped >= 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_openai_forms_say_the_same(running, path):
    for prompt, parameters in trials(running):
        ask = {key: value for key, value in parameters.items() if key not in ("do_sample", "max_new_tokens")}
        ask = {"max_tokens": parameters["max_new_tokens"], "temperature": 0, **ask}
        if "chat" in path:
            ask |= {"messages": [{"role": "user", "content": prompt}], "logprobs": True, "top_logprobs": 1}
        else:
            ask |= {"prompt": prompt, "logprobs": 1}
        plain = openai_whole(post(running, path, ask))
        streamed = post(running, path, {**ask, "stream": True, "stream_options": {"include_usage": True}})
        assert streamed.endswith("data: [DONE]\n\n")
        assert openai_chunks(streamed) == plain
        assert len(plain[3]) == plain[2]["completion_tokens"]


def test_chats_on_lmi_routes_say_the_same_in_both_framings(running):
    ask = {
        "messages": [{"role": "user", "content": "Say something with an ü"}],
        "max_tokens": 20,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
    }
    content, reason, _, logprobs = openai_whole(post(running, "/invocations", ask))
    for formatter, end in (("jsonlines", "\n"), ("jsonlines_chat", "\n"), ("sse", "\n\n"), ("sse_chat", "\n\n")):
        text = post(
            running, "/invocations", {**ask, "stream": True, "parameters": {"output_formatter": formatter}}
        )
        chunks = [chunk["choices"][0] for chunk in records(text, end)]
        assert "".join(c["delta"]["content"] for c in chunks) == content
        assert [c["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [reason]
        assert [x for c in chunks for x in logprobs_of(c)] == logprobs
        assert "role" in chunks[0]["delta"] and not any("role" in c["delta"] for c in chunks[1:])
    accepted = urllib.request.Request(
        running.url + "/invocations",
        json.dumps({**ask, "stream": True}).encode(),
        {"content-type": "application/json", "accept": "text/event-stream"},
    )
    with urllib.request.urlopen(accepted, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.read().startswith(b"data: {")
    whole = post(running, "/invocations", {**ask, "stream": True, "parameters": {"output_formatter": "json_chat"}})
    assert openai_whole(whole)[0] == content

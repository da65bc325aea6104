"""Requests of every kind that /openapi.json allows, and of kinds that it forbids.

TROUPE_API_CASES says how many; `make test` runs 1,000 and `tools/run_tests long` 20,000.
"""

import json
import os

import hypothesis
import pytest
import requests
import schemathesis
from byte_model import make_byte_model
from conftest import Server
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CASES = int(os.environ.get("TROUPE_API_CASES", "1000"))
# More tokens than this show nothing more.
ENOUGH = 24
LIMITS = ("max_new_tokens", "max_tokens", "max_completion_tokens", "n", "best_of")
# What the contract names beside the usual ones: draining and full queues.
NAMED = (503, 507)
# What an answer is held to: its status, its media type and its body stand in the description.
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
SERVED = "dummy"


@pytest.fixture(scope="module")
def running():
    # Names that look like the hub's shall not be looked for there.
    server = Server("--dummy-model", "--max-model-len", "512", env={"HF_ENDPOINT": "http://127.0.0.1:1"})
    yield server
    assert server.process.poll() is None, server.output()
    assert server.stop() == 0, server.output()


def bounded(body):
    """The same request, but not for minutes."""
    if not isinstance(body, dict):
        return body
    out = dict(body)
    for name in LIMITS:
        most = 3 if name in ("n", "best_of") else ENOUGH
        if isinstance(out.get(name), int) and out[name] > most:
            out[name] = most
    if isinstance(out.get("parameters"), dict):
        out["parameters"] = bounded(out["parameters"])
    return out


def operations(schema):
    return [result.ok() for result in schema.get_all_operations()]


def test_nothing_that_can_be_asked_breaks_the_server(running):
    schema = schemathesis.openapi.from_url(running.url + "/openapi.json")
    every = operations(schema)
    assert len(every) > 15
    session = requests.Session()
    asked = 0

    def ask(case):
        nonlocal asked
        asked += 1
        case.body = bounded(case.body)
        # Every other one is for the model that is there; nothing shall take that away.
        if asked % 2 and case.method in ("GET", "POST") and "model" in (case.path_parameters or {}):
            case.path_parameters["model"] = SERVED
        answer = case.call(session=session, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        # A model that was registered and could not be loaded makes /ping say so.
        named = answer.status_code in NAMED or (case.path == "/ping" and "FAILED" in answer.text)
        assert answer.status_code < 500 or named, (
            f"{case.as_curl_command()}\n{answer.status_code} {answer.text}"
        )
        if answer.status_code >= 400:
            kind = answer.headers.get("content-type", [""])
            assert "json" in str(kind) or not answer.content, answer.headers
            if answer.content:
                json.loads(answer.content)

    # A route without a body or a part in its path can be asked in one way only.
    shapes = [
        (operation, mode)
        for operation in every
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        if mode is schemathesis.GenerationMode.POSITIVE or "requestBody" in operation.definition.raw
    ]
    with_body = sum("requestBody" in operation.definition.raw for operation, _ in shapes)
    for operation, mode in shapes:
        most = -(-CASES // with_body) if "requestBody" in operation.definition.raw else 10

        @hypothesis.seed(20261126)
        @hypothesis.settings(
            max_examples=most,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def trial(case):
            ask(case)

        trial()
    assert requests.get(running.url + "/health", timeout=10).status_code == 200
    assert asked >= CASES * 0.7, asked


RAW = [
    b"",
    b"\x00",
    b"\xff\xfe\x00\x01",
    b"null",
    b"[]",
    b"\"text\"",
    b"{\"inputs\": \"\x00\"}",
    b"{\"inputs\": \"\\u0000\"}",
    b"{\"inputs\": \"\\ud800\"}",
    b"{\"inputs\": \"\xc3\"}",
    b"{\"inputs\": \"a\", \"parameters\": {\"stop\": [\"\\u0000\"], \"max_new_tokens\": 4}}",
    b"{\"prompt\": \"\\u0000\", \"max_tokens\": 4}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": \"\\u0000\\ud83d\"}], \"max_tokens\": 4}",
    b"{" * 5000,
    b"[" * 100_000,
    b"{\"inputs\": 1e400}",
    b"{\"tokens\": [99999999999999999999999999]}",
]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_bytes_of_any_kind_get_an_answer(running, kind):
    for path in ("/invocations", "/generate", "/", "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        for body in RAW:
            answer = requests.post(running.url + path, body, headers={"content-type": kind}, timeout=30)
            assert answer.status_code < 500, (path, kind, body[:60], answer.text)
    assert requests.get(running.url + "/health", timeout=10).status_code == 200


def test_every_form_of_answer_is_described(running, tmp_path):
    schema = schemathesis.openapi.from_url(running.url + "/openapi.json")

    def ask(method, path, expected=200, **parts):
        if "body" in parts:
            parts["media_type"] = "application/json"
        case = schema[path][method].Case(**parts)
        answer = case.call(timeout=60)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code == expected, (method, path, parts, answer.text)
        return answer

    short = {"max_new_tokens": 3, "ignore_eos_token": True}
    everything = {**short, "details": True, "top_n_tokens": 2, "decoder_input_details": True}
    for parameters in (
        short,
        everything,
        {**everything, "do_sample": True, "n": 2, "best_of": 3},
        {**everything, "num_beams": 3},
        {**short, "decoding_strategy": "contrastive"},
    ):
        ask("POST", "/invocations", body={"inputs": "a", "parameters": parameters})
    ask("POST", "/invocations", body={"inputs": "a", "stream": True, "parameters": short})
    ask("POST", "/invocations", body={"inputs": "a", "parameters": {**short, "output_formatter": "sse"}})
    ask("POST", "/invocations", 424, body={"inputs": 5})
    ask("POST", "/invocations", 400, headers={"x-starting-token": "none"}, body={"inputs": "a"})
    ask("POST", "/predictions/{model}", path_parameters={"model": SERVED}, body={"inputs": "a"})
    ask("POST", "/predictions/{model}", 404, path_parameters={"model": "none"}, body={"inputs": "a"})

    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": "a", "max_tokens": 3})):
        ask("POST", path, body=body)
        ask("POST", path, body={**body, "model": SERVED, "n": 2})
        ask("POST", path, body={**body, "stream": True})
        ask("POST", path, 404, body={**body, "model": "none"})
        ask("POST", path, 400, body={**body, "temperature": 9})
    ask("POST", "/v1/chat/completions", body={**chat, "logprobs": True, "top_logprobs": 2})
    ask("POST", "/v1/completions", body={"prompt": ["a", "b"], "max_tokens": 2, "logprobs": 2, "echo": True})
    ask("POST", "/invocations", body=chat)
    ask("POST", "/invocations", body={"prompt": "a"})

    ask("POST", "/generate", body={"inputs": "a", "parameters": everything})
    ask("POST", "/generate", body={"inputs": "a", "parameters": {**everything, "do_sample": True, "best_of": 2}})
    ask("POST", "/generate", 422, body={"inputs": ""})
    ask("POST", "/generate_stream", body={"inputs": "a", "parameters": short})
    ask("POST", "/", body={"inputs": "a", "parameters": short})
    ask("POST", "/", body={"inputs": "a", "parameters": short, "stream": True})
    ask("POST", "/tokenize", body={"prompt": "a"})
    ask("POST", "/tokenize", 400, body={"prompt": 5})
    ask("POST", "/detokenize", body={"tokens": [1, 2]})
    for path in ("/ping", "/health", "/info", "/metrics", "/openapi.json", "/v1/models", "/models", "/workflows"):
        ask("GET", path)
    ask("GET", "/v1/models/{model}", path_parameters={"model": SERVED})
    ask("GET", "/v1/models/{model}", 404, path_parameters={"model": "none"})

    tiny = {"model": "tiny"}
    url = {"url": str(make_byte_model(tmp_path / "tiny"))}
    ask("POST", "/models", query=url)
    ask("POST", "/models", 409, query=url)
    ask("POST", "/models", 202, query={**url, "model_name": "other", "synchronous": "false"})
    ask("POST", "/models", 404, query={"url": "/no/such/folder"})
    ask("POST", "/models", 400)
    ask("GET", "/models", query={"limit": "1"})
    ask("GET", "/models/{model}", path_parameters=tiny)
    ask("GET", "/workflows/{model}", path_parameters=tiny)
    ask("PUT", "/models/{model}", path_parameters=tiny, query={"max_worker": "2"})
    ask("PUT", "/models/{model}", 400, path_parameters=tiny, query={"max_worker": "two"})
    ask("DELETE", "/models/{model}", path_parameters=tiny)
    ask("DELETE", "/models/{model}", 404, path_parameters=tiny)
    ask("POST", "/workflows", 400)
    ask("POST", "/server/logging", query={"level": "info"})
    ask("POST", "/server/logging", 400, query={"level": "loud"})

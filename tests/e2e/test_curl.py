"""curl against the real binary: the LMI forms, the plain routes, bad input."""

import json
import re
import subprocess

import pytest


def curl(server, path, body=None, *arguments):
    command = ["curl", "-sS", "-i", "--max-time", "60", server.url + path, *arguments]
    if body is not None:
        text = body if isinstance(body, str) else json.dumps(body)
        command += ["-H", "content-type: application/json", "--data-binary", text]
    done = subprocess.run(command, capture_output=True, timeout=90)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, content = content.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split()[1]), headers, content.decode()


def test_ping_says_healthy(server):
    status, _, body = curl(server, "/ping")
    assert status == 200
    assert [entry["status"] for entry in json.loads(body).values()] == ["Healthy"]


def test_invocations_answer_in_every_form(server):
    ask = {"inputs": "Rain fell on the harbour and", "parameters": {"max_new_tokens": 6, "details": True}}
    status, headers, body = curl(server, "/invocations", ask)
    assert status == 200 and headers["content-type"].startswith("application/json")
    plain = json.loads(body)
    assert plain["details"]["generated_tokens"] == 6
    assert "".join(t["text"] for t in plain["details"]["tokens"]) == plain["generated_text"]

    status, headers, body = curl(server, "/invocations", {**ask, "stream": True})
    assert status == 200 and headers["content-type"].startswith("application/jsonlines")
    lines = [json.loads(line) for line in body.splitlines()]
    assert len(lines) == 6
    assert "".join(line["token"]["text"] for line in lines) == plain["generated_text"]
    assert lines[-1]["generated_text"] == plain["generated_text"]
    assert [line["token"]["id"] for line in lines] == [t["id"] for t in plain["details"]["tokens"]]

    ask["parameters"]["output_formatter"] = "sse"
    status, headers, body = curl(server, "/invocations", {**ask, "stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    events = [json.loads(e.removeprefix("data: ")) for e in body.strip().split("\n\n")]
    assert events == lines


def test_every_log_line_about_a_request_names_it(server):
    def lines(name):
        return [x for x in server.output().splitlines() if f"[RequestId={name}]" in x]

    curl(server, "/invocations", '{"inputs": ', "-H", "x-request-id: broken-json")
    curl(server, "/invocations", {"inputs": [1]}, "-H", "x-request-id: no-text")
    long = {"inputs": "word " * 20000}
    curl(server, "/invocations", long, "-H", "x-request-id: too-long")
    curl(server, "/v1/models?a=b", None, "-H", "x-request-id: fine", "--http1.0")
    assert any("refused: Input Parsing failed" in x for x in lines("broken-json"))
    assert any("inputs must be a string" in x for x in lines("no-text"))
    assert any("too long" in x for x in lines("too-long"))
    access = re.compile(r'127\.0\.0\.1\S* "(.*)" (\d+) \d+$')
    for name, request, status in [
        ("broken-json", "POST /invocations HTTP/1.1", "424"),
        ("too-long", "POST /invocations HTTP/1.1", "424"),
        ("fine", "GET /v1/models?a=b HTTP/1.0", "200"),
    ]:
        found = [access.search(x) for x in lines(name)]
        assert [m.groups() for m in found if m] == [(request, status)]


def test_a_chat_streams_to_curl(server):
    ask = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "stream": True}
    status, headers, body = curl(server, "/v1/chat/completions", ask, "-N")
    assert status == 200 and headers["transfer-encoding"] == "chunked"
    assert body.rstrip().endswith("data: [DONE]")


def test_tokenize_and_detokenize_are_inverse(server):
    status, _, body = curl(server, "/tokenize", {"prompt": "Grüße, 東京 123"})
    answer = json.loads(body)
    assert status == 200 and answer["count"] == len(answer["tokens"]) and answer["max_model_len"] > 0
    status, _, body = curl(server, "/detokenize", {"tokens": answer["tokens"]})
    assert status == 200 and json.loads(body)["prompt"] == "Grüße, 東京 123"


def test_metrics_are_prometheus_text(server):
    status, headers, body = curl(server, "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert "troupe_requests_running" in body
    assert curl(server, "/server/metrics")[0] == 200


@pytest.mark.parametrize(
    "path, body, status, contains",
    [
        ("/invocations", '{"inputs": ', 424, "Input Parsing failed."),
        ("/invocations", {"inputs": ["a"]}, 424, "Input Parsing failed."),
        ("/invocations", {"inputs": "a", "parameters": {"max_new_tokens": 0}}, 424, "max_new_tokens"),
        ("/invocations", {"inputs": "a", "parameters": {"temperature": "hot"}}, 424, "temperature"),
        ("/invocations", {"inputs": "word " * 12_000}, 424, "too long"),
        ("/v1/chat/completions", '{"messages": ', 400, "invalid_request_error"),
        ("/v1/chat/completions", {"messages": "hi"}, 400, "messages"),
        ("/v1/completions", {"prompt": [1, -5]}, 400, "prompt"),
        ("/predictions/nosuch", {"inputs": "a"}, 404, "Model or workflow not found: nosuch"),
        ("/nowhere", {"a": 1}, 404, "ResourceNotFoundException"),
    ],
)
def test_bad_input_gets_its_error(server, path, body, status, contains):
    got, headers, text = curl(server, path, body)
    assert (got, contains in text) == (status, True), text
    assert headers["connection"] == "close"
    assert curl(server, "/ping")[0] == 200


def test_invalid_utf8_gets_an_error(server, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b'{"inputs": "\xff\xfe"}')
    status, _, _ = curl(server, "/invocations", None, "--data-binary", f"@{body}", "-H",
                        "content-type: application/json")
    assert status == 424


def test_an_oversize_body_is_refused(start):
    from conftest import MODEL

    small = start(MODEL, "--max-request-size", "2000")
    status, _, _ = curl(small, "/invocations", {"inputs": "x" * 5000})
    assert status == 413
    assert curl(small, "/ping")[0] == 200


def test_a_chat_template_of_the_operators_own(start, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    server = start("--dummy-model", "--chat-template", template)
    _, _, body = curl(server, "/tokenize", {"messages": [{"role": "user", "content": "Hi"}]})
    _, _, body = curl(server, "/detokenize", {"tokens": json.loads(body)["tokens"]})
    assert json.loads(body)["prompt"] == "[user] Hi"


def test_a_broken_chat_template_ends_the_start(start, tmp_path):
    template = tmp_path / "broken.jinja"
    template.write_text("{% if %}")
    server = start("--dummy-model", "--chat-template", template, wait=False)
    assert server.process.wait(20) == 1
    assert "broken.jinja" in server.output() and "line 1" in server.output()

"""What the server says of itself: while it loads, when it fails, when too much goes wrong."""

import os
import signal
import socket
import subprocess
import time

import httpx
import pytest
from conftest import BINARY, MODEL

DUMMY = "--dummy-model"


@pytest.fixture
def stuck_model(tmp_path):
    """A model folder whose tokenizer never comes to an end."""
    for file in MODEL.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    os.mkfifo(tmp_path / "tokenizer.json")
    return tmp_path


def test_a_taken_port_is_said_before_the_model_is_loaded(stuck_model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run([str(BINARY), "serve", str(stuck_model), "--port", str(port)],
                              capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr and "--port" in done.stderr


def test_loading_behind_an_open_port(start):
    server = start(MODEL, "--wait-model-loading", "false", env={"SERVING_ALLOW_MULTI_STATUS": "true"})
    seen = set()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ping = httpx.get(server.url + "/ping")
        state = next(iter(ping.json().values()))["status"] if ping.json() else "none"
        seen.add((ping.status_code, state))
        if state == "Healthy":
            break
    assert (200, "Healthy") in seen
    assert seen <= {(207, "PENDING"), (200, "Healthy"), (200, "none")}
    assert httpx.post(server.url + "/invocations", json={"inputs": "Hi"}, timeout=60).status_code == 200


def test_requests_while_a_model_loads_are_refused_as_not_ready(start, stuck_model):
    server = start(stuck_model, "--wait-model-loading", "false")
    answer = httpx.post(server.url + "/invocations", json={"inputs": "Hi"})
    assert answer.status_code == 503
    assert answer.json()["message"].startswith("Model is not ready")
    answer = httpx.post(server.url + "/v1/chat/completions",
                        json={"messages": [{"role": "user", "content": "Hi"}]})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    server.process.send_signal(signal.SIGTERM)
    # The thread that reads the tokenizer hangs in the system; the process ends all the same.
    assert server.process.wait(30) == 1
    assert "ended by force" in server.output()


def test_without_rolling_batch_a_call_has_its_time(start):
    server = start(MODEL, "--rolling-batch", "disable", "--predict-timeout", "0.5")
    answer = httpx.post(server.url + "/invocations", timeout=60,
                        json={"inputs": "Once", "parameters": {"max_new_tokens": 5000,
                                                               "ignore_eos_token": True}})
    assert answer.status_code == 503
    assert answer.json()["type"] == "WlmException"
    short = httpx.post(server.url + "/invocations", json={"inputs": "Hi", "parameters": {"max_new_tokens": 1}})
    assert short.status_code == 200


def test_too_many_errors_are_told_for_good(start):
    server = start(DUMMY, env={"SERVING_ERROR_RATE_SERVER": "2/PT1H"})
    for expected in (200, 200, 503):
        assert httpx.post(server.url + "/invocations", json={"inputs": 5}).status_code == 424
        assert httpx.get(server.url + "/ping").status_code == expected
    assert httpx.post(server.url + "/invocations", json={"inputs": "Hi"}).status_code == 200
    assert httpx.get(server.url + "/ping").status_code == 503


def test_a_limit_that_is_none_is_named(start):
    done = subprocess.run([str(BINARY), "serve", DUMMY, "--port", "0"], capture_output=True, text=True,
                          timeout=20, env={**os.environ, "SERVING_ERROR_RATE_ANY": "10/1M"})
    assert done.returncode == 1
    assert "SERVING_ERROR_RATE_ANY" in done.stderr and "10/PT30S" in done.stderr

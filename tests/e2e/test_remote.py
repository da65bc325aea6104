"""The engine as an actor of another process: examples/remote_client against `troupe serve --publish-port`."""

import os
import re
import signal
import socket
import subprocess
import time

import httpx
import pytest
from conftest import BINARY, ROOT
from test_install import prefix, run  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def client(prefix, tmp_path_factory):  # noqa: F811
    build = tmp_path_factory.mktemp("remote_client")
    run("cmake", "-S", ROOT / "examples/remote_client", "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    return build / "remote_client"


@pytest.fixture
def published(start):
    server = start("--dummy-model", "--publish-port", "0", "--max-model-len", "100000000")
    server.published = int(re.search(r"published on 127\.0\.0\.1:(\d+)", server.output()).group(1))
    return server


def ask(client, port, *arguments):
    return subprocess.run([client, f"--port={port}", *arguments], capture_output=True, text=True, timeout=60)


def endless(client, port):
    """A client whose stream has begun and will not end by itself."""
    process = subprocess.Popen([client, f"--port={port}", "--tokens=90000000"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    assert process.stdout.read(20)
    return process


def running(server):
    text = httpx.get(server.url + "/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith(("troupe_requests_running", "troupe_requests_waiting", "troupe_kv_blocks_used")))


def test_another_process_streams_what_http_answers(client, published):
    done = ask(client, published.published, "--tokens=24", "--prompt=Once upon a time")
    assert done.returncode == 0, done.stderr
    body = {"model": "dummy", "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}
    assert done.stdout.rstrip("\n") == httpx.post(published.url + "/v1/completions", json=body).json()["choices"][0]["text"]


def test_an_error_of_the_engine_arrives_with_its_name(client, published):
    done = ask(client, published.published, "--model=nobody")
    assert done.returncode == 1 and "model_not_found" in done.stderr


@pytest.mark.parametrize("where", ["nothing listens", "HTTP listens", "says nothing"])
def test_a_client_without_a_server_ends_with_a_typed_error(client, published, where):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = {"nothing listens": 1, "HTTP listens": published.url.rsplit(":", 1)[1],
                "says nothing": silent.getsockname()[1]}[where]
        begin = time.monotonic()
        done = ask(client, port)
    assert done.returncode == 1 and "unreachable" in done.stderr
    assert time.monotonic() - begin < 25


def test_a_client_whose_server_dies_ends_with_a_typed_error(client, published):
    process = endless(client, published.published)
    published.process.kill()
    _, complaints = process.communicate(timeout=20)
    assert process.returncode == 1 and b"unreachable" in complaints


def test_a_client_whose_server_is_told_to_stop_gets_its_error_event(client, published):
    process = endless(client, published.published)
    published.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    published.process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=20)
    assert process.returncode == 1 and (b"shutting_down" in complaints or b"unreachable" in complaints)
    assert published.process.wait(20) == 0


def test_a_client_that_dies_frees_its_sequence_at_once(client, published):
    process = endless(client, published.published)
    assert running(published) > 0
    process.kill()
    process.wait()
    end = time.monotonic() + 2
    while running(published) and time.monotonic() < end:
        time.sleep(0.02)
    assert running(published) == 0
    process.stdout.close()
    process.stderr.close()


def test_malformed_bytes_do_not_hurt_the_server(client, published):
    process = endless(client, published.published)
    for size in (1, 7, 40, 41, 1000, 100_000):
        for first in range(8):
            with socket.create_connection(("127.0.0.1", published.published)) as peer:
                try:
                    peer.sendall(bytes([first]) + os.urandom(size))
                except OSError:
                    pass  # it has hung up already
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert ask(client, published.published, "--tokens=4").returncode == 0
    assert httpx.get(published.url + "/ping").status_code == 200


def test_a_port_that_is_taken_is_named(published):
    done = subprocess.run([BINARY, "serve", "--dummy-model", "--port", "0", "--publish-port",
                           str(published.published)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"127.0.0.1:{published.published}" in done.stderr


@pytest.mark.skipif("TROUPE_SOAK_SECONDS" not in os.environ, reason="long: run `make test-long`")
def test_a_peer_that_falls_silent_is_given_up(client, published):
    process = endless(client, published.published)
    published.process.send_signal(signal.SIGSTOP)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1 and b"unreachable" in complaints
    published.process.send_signal(signal.SIGCONT)
    silent = endless(client, published.published)
    silent.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 60
    while running(published) and time.monotonic() < end:
        time.sleep(0.2)
    silent.kill()
    silent.communicate()
    assert running(published) == 0

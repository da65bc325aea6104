"""Runs the real binary for the end-to-end tests."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("TROUPE_BINARY", ROOT / "build/release/bin/troupe"))
MODEL = pathlib.Path(
    os.environ.get("TROUPE_E2E_MODEL", ROOT / ".cache/models/SmolLM2-135M-Instruct")
)


class Server:
    """One `troupe serve` process on a port of its own choosing."""

    def __init__(self, *arguments, env=None, wait=True):
        self.log = tempfile.NamedTemporaryFile(suffix=".troupe.log")
        self.process = subprocess.Popen(
            [str(BINARY), "serve", *map(str, arguments), "--host", "127.0.0.1", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        self.url = None
        if wait:
            self.wait_ready()

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def wait_ready(self, seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = re.search(r"https?://127\.0\.0\.1:(\d+)", self.output())
            if found:
                self.url = found.group(0)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"the server did not get ready:\n{self.output()}")

    def stop(self, how=signal.SIGTERM, seconds=40):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                pytest.fail(f"the server did not stop:\n{self.output()}")
        return self.process.returncode


@pytest.fixture(scope="session")
def server():
    if not (MODEL / "config.json").exists():
        pytest.fail(f"{MODEL} is missing: run `make test`, which prepares it")
    running = Server(MODEL)
    yield running
    assert running.stop() == 0, running.output()


@pytest.fixture
def start():
    running = []

    def launch(*arguments, **keywords):
        running.append(Server(*arguments, **keywords))
        return running[-1]

    yield launch
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()

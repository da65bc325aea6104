"""Servers on emulated GPUs (tests/models/cuda/emulation), with a model of three small layers and no weights."""

import json
import os
import pathlib
import re
import signal
import subprocess
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TROUPE_BUILD", ROOT / "build/release"))
LIBRARY = BUILD / "lib/libtroupe_cuda_emulated.so"
MODEL = pathlib.Path(os.environ.get("TROUPE_MODEL_DIR", ROOT / ".cache/models/SmolLM2-135M-Instruct"))
needs_emulation = pytest.mark.skipif(not LIBRARY.exists(), reason="built without the CUDA toolchain")


@pytest.fixture
def folder(tmp_path):
    """A model of three small layers, without weights."""
    config = json.loads((MODEL / "config.json").read_text())
    config.update(num_hidden_layers=3, hidden_size=64, intermediate_size=128, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=16)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text((MODEL / "tokenizer.json").read_text())
    return tmp_path


class Server:
    def __init__(self, folder, *flags, **variables):
        self.process = subprocess.Popen(
            [BUILD / "bin/troupe", "serve", folder, "--port", "0", "--load-format", "dummy", "--served-model-name", "m",
             *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(os.environ, TROUPE_CUDA_LIBRARY=str(LIBRARY), **variables))
        self.port, self.seen = None, ""
        for line in self.process.stdout:
            self.seen += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                break

    def ask(self, **wishes):
        body = {"model": "m", "prompt": "The lighthouse keeper", "max_tokens": 40, "temperature": 0, **wishes}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["choices"][0]["text"]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        return self.seen + out

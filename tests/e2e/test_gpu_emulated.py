"""The whole server on emulated GPUs (tests/models/cuda/emulation): what needs no real kernel to be seen."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest

from emulated import BUILD, LIBRARY, Server, folder, needs_emulation  # noqa: F401 (a fixture)

pytestmark = needs_emulation


def test_the_plan_is_printed_and_the_answers_are_those_of_the_cpu(folder):
    server = Server(folder, "--dtype", "fp32")
    assert "GPU 0 (Emulated GPU): layers 0 to 2" in server.seen
    assert re.search(r"KV cache for \d+ tokens: \d+ users with the longest context", server.seen)
    texts = [server.ask(), server.ask(temperature=0.8, seed=3), server.ask(no_repeat_ngram_size=2)]
    assert server.stop().rstrip().endswith("stopped")
    cpu = Server(folder, "--dtype", "fp32", "--devices", "cpu")
    assert [cpu.ask(), cpu.ask(temperature=0.8, seed=3), cpu.ask(no_repeat_ngram_size=2)] == texts
    cpu.stop()


def test_two_shards_answer_as_one(folder):
    one = Server(folder)
    expected = one.ask()
    one.stop()
    two = Server(folder, "--tensor-parallel-degree", "2")
    assert re.search(r"GPU 1 \(Emulated GPU\): layers \d to 2", two.seen)
    assert two.ask() == expected
    two.stop()


def test_a_stream_goes_on_where_it_was_after_the_device_is_lost(folder):
    sound = Server(folder, "--devices", "0")
    expected = sound.ask()
    sound.stop()
    hurt = Server(folder, "--devices", "0", TROUPE_EMULATED_FAULT_AT="700")
    assert hurt.ask() == expected
    assert hurt.ask() == expected
    assert "shard 0 died" in hurt.stop()


def test_a_device_that_stays_lost_is_told(folder):
    hurt = Server(folder, "--devices", "0", "--retry-threshold", "1", TROUPE_EMULATED_FAULT_AT="700", TROUPE_EMULATED_FAULT_STAYS="1")
    with pytest.raises(urllib.error.HTTPError) as refused:
        hurt.ask()
    assert refused.value.code >= 500
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{hurt.port}/ping", timeout=10)
    assert "cannot use the GPU again after a fault" in hurt.stop()


LOST = {"TROUPE_EMULATED_FAULT_AT": "700", "TROUPE_EMULATED_FAULT_STAYS": "1"}


def test_the_process_ends_when_retries_are_spent_and_that_is_wanted(folder):
    hurt = Server(folder, "--devices", "0", "--retry-threshold", "1", SERVING_FAIL_FAST="true", **LOST)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        hurt.ask()
    assert hurt.process.wait(30) == 137
    assert "fail_fast" in hurt.stop()


def test_a_model_whose_retries_are_spent_may_count_as_healthy(folder):
    hurt = Server(folder, "--devices", "0", "--retry-threshold", "1", SERVING_HEALTH_CHECK_OVERRIDE="true", **LOST)
    with pytest.raises(urllib.error.HTTPError):
        hurt.ask()
    with urllib.request.urlopen(f"http://127.0.0.1:{hurt.port}/ping", timeout=10) as ping:
        assert json.load(ping) == {"m": {"status": "Healthy"}}
    with pytest.raises(urllib.error.HTTPError) as refused:
        hurt.ask()
    assert refused.value.code == 503
    hurt.stop()


@pytest.mark.parametrize("flags, variables, sentence", [
    (["--devices", "0"], {"TROUPE_EMULATED_GPUS": "0"}, "there is no GPU"),
    (["--devices", "5"], {}, "there is no GPU 5: this machine has 2"),
    (["--tensor-parallel-degree", "3"], {}, "GPU devices are not enough to run 3 partitions: there are 2"),
    (["--devices", "0"], {"TROUPE_EMULATED_GPU_BYTES": "60000000", "SERVING_RESERVED_MEMORY_MB": "0"},
     "does not fit: its weights take"),
    (["--devices", "0"], {"SERVING_RESERVED_MEMORY_MB": "2000"}, "gpu.reserved_memory_mb (2000) together want more"),
    (["--max-model-len", "8192", "--kv-cache-bytes", "65536"], {}, "set option.max_model_len to at most"),
    (["--devices", "0"], {"TROUPE_CUDA_LIBRARY": "/no/such.so"}, "the CUDA library cannot be loaded"),
])
def test_what_cannot_start_says_why_in_one_sentence(folder, flags, variables, sentence):
    environment = dict(os.environ, TROUPE_CUDA_LIBRARY=str(LIBRARY))
    environment.update(variables)
    done = subprocess.run([BUILD / "bin/troupe", "serve", folder, "--port", "0", "--load-format", "dummy", *flags],
                          capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert sentence in done.stderr + done.stdout
    assert "Traceback" not in done.stderr

"""Start, stop and overload of the real binary."""

import concurrent.futures
import json
import shutil
import signal
import subprocess
import time

import httpx
import pytest
from conftest import BINARY, MODEL, ROOT

TINY = ROOT / "tests/golden/models"


def long_request(url, tokens=400):
    return httpx.post(
        url + "/invocations",
        json={"inputs": "Once", "parameters": {"max_new_tokens": tokens, "ignore_eos_token": True}},
        timeout=120,
    )


def test_sigterm_lets_running_requests_finish(start):
    server = start(MODEL)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(long_request, server.url, 60) for _ in range(4)]
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            assert answer.result().status_code == 200
    assert server.process.wait(30) == 0


def test_a_drain_timeout_and_a_second_signal_end_what_still_runs(start):
    server = start(MODEL, "--drain-timeout", "1")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(long_request, server.url, 5000) for _ in range(2)]
        time.sleep(0.5)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert time.monotonic() - begin < 15
        for answer in answers:
            try:
                assert answer.result().status_code in (503, 424)
            except httpx.HTTPError:
                pass


def test_a_second_signal_ends_streams_at_once_with_an_error_event(start):
    server = start(MODEL)
    with httpx.stream("POST", server.url + "/v1/completions", timeout=60,
                      json={"model": server_model(server), "prompt": "Once", "max_tokens": 4000, "stream": True,
                            "ignore_eos": True}) as answer:
        events = answer.iter_lines()
        next(events)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None, "it did not wait for the stream"
        server.process.send_signal(signal.SIGTERM)
        said = [line for line in events if line]
    assert server.process.wait(10) == 0
    assert time.monotonic() - begin < 5
    assert any("shutting_down" in line for line in said[-2:]), said[-3:]


def server_model(server):
    return httpx.get(server.url + "/v1/models").json()["data"][0]["id"]


def test_every_mailbox_is_empty_when_nobody_asks_for_anything(start):
    server = start("--dummy-model")

    def ask(i):
        with httpx.stream("POST", server.url + "/v1/completions", timeout=60,
                          json={"model": "dummy", "prompt": "x", "max_tokens": 5 + i % 60, "stream": True}) as answer:
            for n, _ in enumerate(answer.iter_lines()):
                if i % 3 == 0 and n > 5:
                    break  # this client leaves

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(600)))

    def depths():
        return [line for line in httpx.get(server.url + "/metrics").text.splitlines()
                if line.startswith("troupe_mailbox_depth") and not line.endswith(" 0")]

    end = time.monotonic() + 5
    while depths() and time.monotonic() < end:
        time.sleep(0.1)
    assert not depths()


def test_a_full_queue_is_refused_early(start):
    server = start(MODEL, "--max-rolling-batch-size", "1", "--job-queue-size", "1")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        codes = sorted(r.result().status_code for r in
                       [pool.submit(long_request, server.url, 60) for _ in range(6)])
    assert codes[0] == 200 and codes[-1] == 503, codes


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: edit(folder / "config.json", architectures=["NoSuchForCausalLM"]), "NoSuchForCausalLM"),
        (lambda folder: cut(folder / "model.safetensors"), "model.safetensors"),
    ],
)
def test_an_unusable_folder_is_one_clear_sentence_and_exit_code_1(tmp_path, spoil, says):
    folder = tmp_path / "model"
    source = next(p for p in sorted(TINY.iterdir()) if (p / "config.json").exists())
    shutil.copytree(source, folder)
    spoil(folder)
    done = subprocess.run([str(BINARY), "serve", str(folder), "--port", "0"], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1
    assert says in done.stderr + done.stdout
    assert "terminate" not in done.stderr


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100])


def test_shards_change_nothing_but_the_work(start, server):
    alone = long_request(server.url, 24).json()
    sharded = start(MODEL, "--tensor-parallel-degree", "2")
    assert long_request(sharded.url, 24).json() == alone


def test_generate_stops_when_nobody_reads_on():
    begin = time.monotonic()
    line = f"'{BINARY}' generate '{MODEL}' -p 'Once upon a time' -n 4000 -q | head -c 20"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120)
    assert len(done.stdout) == 20 and not done.stderr
    assert time.monotonic() - begin < 20  # all of it would take well over a minute


def test_a_mistyped_flag_is_named_with_what_was_meant():
    done = subprocess.run([str(BINARY), "serve", str(MODEL), "--max-model-length", "9"], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1
    assert '"--max-model-length"' in done.stderr and "did you mean --max-model-len?" in done.stderr


@pytest.mark.parametrize("seed", ["1.5", "-1", "99999999999999999999999"])
def test_generate_refuses_a_seed_that_it_could_not_keep(seed):
    done = subprocess.run([str(BINARY), "generate", str(MODEL), "-p", "x", "--seed", seed], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1 and "--seed" in done.stderr


def test_generate_inspect_options_and_version_answer():
    def run(*arguments):
        return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=120)

    done = run("generate", MODEL, "--prompt", "The capital of France is", "--max-new-tokens", "6")
    assert done.returncode == 0 and "Paris" in done.stdout
    done = run("inspect", MODEL)
    assert done.returncode == 0 and "LlamaForCausalLM" in done.stdout
    assert run("options").returncode == 0
    assert "serve" in run("--help").stdout
    assert run("--version").stdout.strip()
    assert run("serve", "/nowhere").returncode == 1
    assert run("serve", MODEL, "--no-such-flag").returncode != 0

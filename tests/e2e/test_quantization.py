"""Weights of eight and four bits (option.quantize) in the real binary, on the default model."""

import concurrent.futures
import json
import subprocess

import httpx
import pytest
from conftest import BINARY, MODEL

PROMPT = "The capital of France is"


def ask(server, text=PROMPT, **parameters):
    answer = httpx.post(
        server.url + "/invocations", json={"inputs": text, "parameters": {"max_new_tokens": 12, **parameters}}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["generated_text"]


def streamed(server):
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 12}, "stream": True}
    with httpx.stream("POST", server.url + "/invocations", json=body, timeout=60) as answer:
        return "".join(json.loads(line)["token"]["text"] for line in answer.iter_lines() if line)


def resident(server):
    with open(f"/proc/{server.process.pid}/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_model_answers_the_same_alone_streamed_and_among_others(start, bits):
    server = start(MODEL, env={"HF_MODEL_QUANTIZE": f"bitsandbytes{bits}"})
    alone = ask(server)
    if bits == 8:
        assert "Paris" in alone
    assert f"layers' matrices are kept in {bits} bits" in server.output()
    assert streamed(server) == alone
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        others = [pool.submit(ask, server, "Count: " + "one, two, " * i) for i in range(1, 5)]
        same = [pool.submit(ask, server) for _ in range(4)]
        assert [answer.result() for answer in same] == [alone] * 4
        assert all(answer.result() for answer in others)


def test_fewer_bits_take_less_memory(start):
    whole = start(MODEL)
    ask(whole)
    taken = resident(whole)
    whole.stop()
    # Of 106 million weights in layers three bytes each are saved, or nearly three and a half.
    for bits, saved in ((8, 250 << 20), (4, 290 << 20)):
        server = start(MODEL, "--quantize", f"bitsandbytes{bits}")
        ask(server)
        assert resident(server) < taken - saved
        server.stop()


def test_the_old_switches_mean_the_same(start, tmp_path):
    (tmp_path / "serving.properties").write_text(
        f"option.model_id={MODEL}\noption.load_in_8bit=true\noption.load_in_4bit=true\n")
    old = start(tmp_path)
    assert "deprecated: set option.quantize=bitsandbytes4" in old.output()
    new = start(MODEL, "--quantize", "bitsandbytes4")
    assert ask(old) == ask(new)


def test_other_quantizations_are_refused_by_name():
    refused = subprocess.run([BINARY, "serve", MODEL, "--quantize", "gptq"], capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "bitsandbytes8" in refused.stderr + refused.stdout
    assert "bitsandbytes4" in refused.stderr + refused.stdout


def test_check_says_what_it_would_take(tmp_path):
    (tmp_path / "serving.properties").write_text(f"option.model_id={MODEL}\noption.quantize=bitsandbytes4\n")
    report = subprocess.run([BINARY, "check", tmp_path], capture_output=True, text=True, timeout=60)
    assert report.returncode == 0, report.stdout + report.stderr
    assert "layers to 4 bits, as fp4 of bitsandbytes" in report.stdout
    assert "memory bf16, 4-bit" in report.stdout

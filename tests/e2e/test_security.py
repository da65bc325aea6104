"""API keys and TLS of the real binary."""

import concurrent.futures
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import BINARY

ASK = {"inputs": "Hi", "parameters": {"max_new_tokens": 2}}


def call(url, body=None, context=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    ask = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(ask, timeout=30, context=context) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@pytest.fixture
def key_file(tmp_path):
    made = tmp_path / "keys"
    made.write_text("# keys of the test\nsk-alice name=alice\nsk-bob name=bob rate=2/h\n")
    return made


def test_only_holders_of_a_key_are_served(start, key_file):
    server = start("--dummy-model", "--api-keys-file", key_file, "--api-key", "sk-carol")
    url = server.url + "/invocations"
    assert call(server.url + "/ping")[0] == 200
    assert call(server.url + "/health")[0] == 200
    status, headers, text = call(url, ASK)
    assert status == 401 and headers["www-authenticate"] == "Bearer"
    assert json.loads(text)["type"] == "UnauthorizedException"
    assert call(url, ASK, authorization="Bearer sk-alice")[0] == 200
    assert call(url, ASK, **{"x-api-key": "sk-carol"})[0] == 200
    assert call(url, ASK, **{"x-api-key": "sk-nobody"})[0] == 401
    statuses = [call(url, ASK, **{"x-api-key": "sk-bob"}) for _ in range(3)]
    assert [one[0] for one in statuses] == [200, 200, 429]
    assert int(statuses[2][1]["retry-after"]) > 1000
    # Another one's use costs nobody else.
    assert call(url, ASK, authorization="Bearer sk-alice")[0] == 200
    assert server.stop() == 0
    assert "sk-" not in server.output()


def test_the_openai_sdk_brings_its_key(start, key_file):
    server = start("--dummy-model", "--api-keys-file", key_file)

    def client(key):
        return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=30)

    assert client("sk-alice").models.list().data
    with pytest.raises(openai.AuthenticationError):
        client("sk-mallory").models.list()
    for _ in range(2):
        client("sk-bob").completions.create(model="dummy", prompt="Hi", max_tokens=2)
    with pytest.raises(openai.RateLimitError):
        client("sk-bob").completions.create(model="dummy", prompt="Hi", max_tokens=2)


def test_keys_take_turns(start, key_file):
    server = start("--dummy-model", "--api-keys-file", key_file, "--max-rolling-batch-size", "1", "--api-key", "sk-carol")
    ask = {"inputs": "Hi", "parameters": {"max_new_tokens": 4000, "ignore_eos": True}}
    finished = []

    def run(key):
        assert call(server.url + "/invocations", ask, **{"x-api-key": key})[0] == 200
        finished.append(key)

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        many = [pool.submit(run, "sk-alice") for _ in range(24)]
        end = time.monotonic() + 30
        while len(finished) < 2:
            assert time.monotonic() < end
            time.sleep(0.001)
        before = len(finished)
        few = [pool.submit(run, "sk-carol") for _ in range(3)]
        for one in many + few:
            one.result()
    # In order of arrival the few would have been the last; by turns they are among the next.
    last = len(finished) - 1 - finished[::-1].index("sk-carol")
    assert last < before + 12, (before, finished)


def refusal(*arguments, **variables):
    done = subprocess.run(
        [BINARY, "serve", "--dummy-model", "--port", "0", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        env={**os.environ, **variables},
    )
    assert done.returncode == 1, done.stdout
    return done.stderr.decode()


def test_a_bad_key_file_is_told_by_line(tmp_path):
    made = tmp_path / "keys"
    made.write_text("sk-alice\nsk-bob rate=fast\n")
    told = refusal("--api-keys-file", made)
    assert f"{made}:2: rate=fast is not allowed" in told and "sk-" not in told
    assert "cannot be read" in refusal("--api-keys-file", tmp_path / "none")
    assert "--api-key: " in refusal("--api-key", "sk-alice rate=fast")


def test_https_without_a_certificate_uses_its_own(start):
    server = start("--dummy-model", "-o", "inference_address=https://127.0.0.1")
    assert server.url.startswith("https://")
    with pytest.raises(urllib.error.URLError):
        call(server.url + "/ping")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    assert call(server.url + "/ping", context=trusting)[0] == 200
    stream = {**ASK, "stream": True}
    status, _, text = call(server.url + "/invocations", stream, context=trusting)
    assert status == 200 and len(text.splitlines()) == 2


def test_a_keystore_that_cannot_be_used_is_told(tmp_path):
    made = tmp_path / "store.p12"
    made.write_bytes(b"no keystore")
    told = refusal("-o", "inference_address=https://127.0.0.1", "-o", f"keystore={made}")
    assert "no PKCS12 file" in told
    half = refusal("-o", "inference_address=https://127.0.0.1", "-o", f"certificate_file={made}")
    assert "private_key_file" in half

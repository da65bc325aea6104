"""Several models in one process, and the management API of the real binary."""

import concurrent.futures
import re
import threading
import time
import urllib.parse

import httpx
import pytest
from conftest import MODEL
from byte_model import make_byte_model

GENERATE = {"inputs": "Hi", "parameters": {"max_new_tokens": 4, "ignore_eos_token": True}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_byte_model(folder / "llama", "llama")
    make_byte_model(folder / "qwen", "qwen3", {"option.tgi_compat": "true"})
    return folder


@pytest.fixture
def pair(start, models):
    """A server that starts with both models."""
    return start("-s", models)


def register(url, folder, **arguments):
    query = urllib.parse.urlencode({"url": f"file://{folder}", **arguments})
    return httpx.post(f"{url}/models?{query}", timeout=120)


def resident_kib(server):
    text = open(f"/proc/{server.process.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def test_a_store_serves_each_of_its_models_in_its_own_manner(pair):
    listed = httpx.get(pair.url + "/models").json()["models"]
    assert [(m["modelName"], m["status"]) for m in listed] == [("llama", "READY"), ("qwen", "READY")]
    assert httpx.get(pair.url + "/ping").json() == {
        "llama": {"status": "Healthy"},
        "qwen": {"status": "Healthy"},
    }
    assert [m["id"] for m in httpx.get(pair.url + "/v1/models").json()["data"]] == ["llama", "qwen"]
    plain = httpx.post(pair.url + "/predictions/llama", json=GENERATE)
    assert plain.status_code == 200 and set(plain.json()) == {"generated_text"}
    tgi = httpx.post(pair.url + "/models/qwen/invoke", json=GENERATE)
    assert tgi.status_code == 200 and tgi.json()[0]["details"]["generated_tokens"] == 4
    nameless = httpx.post(pair.url + "/invocations", json=GENERATE)
    assert nameless.status_code == 400
    assert nameless.json()["message"] == "Parameter model_name is required."
    named = httpx.post(pair.url + "/invocations?model_name=qwen", json=GENERATE)
    assert named.status_code == 200 and isinstance(named.json(), list)
    chat = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    answer = httpx.post(pair.url + "/v1/chat/completions", json=chat)
    assert answer.status_code == 200 and answer.json()["model"] == "llama"
    chat["model"] = "nobody"
    assert httpx.post(pair.url + "/v1/chat/completions", json=chat).status_code == 404


def test_models_named_with_m_get_the_names_given_there(start, models):
    server = start("-m", f"[one:1]={models / 'llama'}", "-m", f"[one:2]={models / 'llama'}")
    described = httpx.get(server.url + "/models/one").json()
    assert [d["version"] for d in described] == ["1", "2"]
    assert all(d["models"][0]["loadedAtStartup"] for d in described)
    for version in ("", "/1", "/2"):
        answer = httpx.post(f"{server.url}/predictions/one{version}", json=GENERATE)
        assert answer.status_code == 200, answer.text
    assert httpx.post(server.url + "/invocations", json=GENERATE).status_code == 200
    assert httpx.post(server.url + "/predictions/one/3", json=GENERATE).status_code == 404
    for _ in range(4):
        httpx.post(server.url + "/predictions/one", json=GENERATE)
    page = httpx.get(server.url + "/metrics").text
    counts = [
        float(re.search(rf'troupe_generated_tokens_total{{model="one:{v}"}} (\S+)', page)[1])
        for v in (1, 2)
    ]
    assert min(counts) >= 8, "versions take turns"
    assert httpx.delete(server.url + "/models/one/1").status_code == 200
    assert [d["version"] for d in httpx.get(server.url + "/models/one").json()] == ["2"]


def test_a_model_is_registered_described_scaled_and_unregistered(start, models):
    server = start(models / "llama")
    answer = register(server.url, models / "qwen", model_name="new", max_worker=2)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"status": 'Model "new" registered.'}
    assert register(server.url, models / "qwen", model_name="new").status_code == 409
    (entry,) = httpx.get(server.url + "/models/new").json()
    (model,) = entry["models"]
    assert model["status"] == "Healthy" and not model["loadedAtStartup"]
    assert model["modelUrl"] == f"file://{models / 'qwen'}"
    (group,) = model["workerGroups"]
    assert group["device"] == {"deviceType": "cpu", "deviceId": -1}
    assert (group["minWorkers"], group["maxWorkers"]) == (1, 2)
    assert len(group["workers"]) == 1
    # The only start-up model still answers requests that name none.
    assert set(httpx.post(server.url + "/invocations", json=GENERATE).json()) == {"generated_text"}
    scaled = httpx.put(server.url + "/models/new?min_worker=2")
    assert scaled.json()["status"].endswith("min workers:2 max workers:2")
    (entry,) = httpx.get(server.url + "/models/new").json()
    assert len(entry["models"][0]["workerGroups"][0]["workers"]) == 2
    stopped = httpx.put(server.url + "/models/new?max_worker=0")
    assert stopped.json()["status"].endswith("min workers:0 max workers:0")
    refused = httpx.post(server.url + "/predictions/new", json=GENERATE)
    assert refused.status_code == 503
    assert refused.json()["message"] == "All model workers has been shutdown: new"
    assert httpx.put(server.url + "/models/new?min_worker=1&max_worker=1").status_code == 200
    assert httpx.post(server.url + "/predictions/new", json=GENERATE).status_code == 200
    page = httpx.get(server.url + "/server/metrics?name[]=RegisterWorkflow&name[]=LoadModel").text
    assert 'RegisterWorkflow{Model="new"}' in page and 'LoadModel{Model="llama"}' in page
    assert httpx.delete(server.url + "/models/new").status_code == 200
    assert httpx.delete(server.url + "/models/new").status_code == 404
    assert httpx.get(server.url + "/models/new").status_code == 404
    assert httpx.post(server.url + "/predictions/new", json=GENERATE).status_code == 404
    assert 'model="new"' not in httpx.get(server.url + "/metrics").text
    assert httpx.delete(server.url + "/models/llama").status_code == 200
    assert httpx.get(server.url + "/ping").json() == {}


def test_registrations_that_cannot_be_say_why(start, models, tmp_path):
    server = start(models / "llama")
    nowhere = register(server.url, tmp_path / "nowhere")
    assert nowhere.status_code == 404, nowhere.text
    assert nowhere.json()["type"] == "ModelNotFoundException"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("no model")
    empty = register(server.url, tmp_path / "empty")
    assert empty.status_code in (400, 404), empty.text
    huge = make_byte_model(tmp_path / "huge", "llama", {"required_memory_mb": 1 << 30})
    full = register(server.url, huge)
    assert full.status_code == 507, full.text
    assert full.json()["type"] == "WlmOutOfMemoryException"
    bad = make_byte_model(tmp_path / "bad", "llama", {"option.dtype": "int3"})
    assert register(server.url, bad).status_code == 400
    assert [m["modelName"] for m in httpx.get(server.url + "/models").json()["models"]] == ["llama"]
    # Asynchronous ones stay, so that their status tells why.
    later = register(server.url, tmp_path / "nowhere", model_name="later", synchronous="false")
    assert later.status_code == 202
    assert later.json() == {"status": 'Model "later" registration scheduled.'}
    end = time.monotonic() + 30
    while "FAILED" not in httpx.get(server.url + "/models/later").text:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert httpx.get(server.url + "/ping").status_code == 500
    assert httpx.delete(server.url + "/models/later").status_code == 200
    assert httpx.get(server.url + "/ping").status_code == 200


def test_a_stream_goes_on_while_its_model_is_unregistered(start, models):
    server = start(models / "llama")
    assert register(server.url, models / "qwen", model_name="leaving").status_code == 200
    request = {
        "inputs": "Hi",
        "stream": True,
        "parameters": {"max_new_tokens": 2000, "ignore_eos_token": True},
    }
    with httpx.stream("POST", server.url + "/predictions/leaving", json=request, timeout=60) as s:
        lines = s.iter_lines()
        next(lines)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            gone = pool.submit(httpx.delete, server.url + "/models/leaving", timeout=60)
            rest = list(lines)
            assert gone.result().status_code == 200
    assert '"generated_text"' in rest[-1] or "generated_text" in rest[-2]
    assert len([line for line in rest if "token" in line]) >= 1999


def test_the_management_api_has_its_own_listener(start, models):
    server = start(
        models / "llama", env={"SERVING_MANAGEMENT_ADDRESS": "http://localhost:0"}
    )
    end = time.monotonic() + 10
    while not (found := re.search(r"management API on (http://\S+)", server.output())):
        assert time.monotonic() < end, server.output()
        time.sleep(0.02)
    management = found[1]
    assert management != server.url
    assert httpx.get(management + "/models").json()["models"][0]["modelName"] == "llama"
    assert httpx.get(server.url + "/models").status_code == 404
    assert httpx.post(management + "/invocations", json=GENERATE).status_code == 404
    assert httpx.get(management + "/ping").status_code == 404
    for url in (management, server.url):
        assert httpx.get(url + "/server/metrics").status_code == 200


def test_registering_in_the_midst_of_traffic_disturbs_nobody(start, models):
    server = start(models / "llama")
    stop, wrong = threading.Event(), []

    def traffic():
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                answer = client.post(server.url + "/predictions/llama", json=GENERATE)
                if answer.status_code != 200:
                    wrong.append(answer.text)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(traffic) for _ in range(2)]
        for _ in range(5):
            assert register(server.url, models / "qwen", model_name="x").status_code == 200
            assert httpx.delete(server.url + "/models/x", timeout=60).status_code == 200
        stop.set()
        for one in running:
            one.result()
    assert not wrong


@pytest.mark.skipif(not (MODEL / "config.json").exists(), reason="the model is not prepared")
def test_memory_comes_back_when_models_go(start):
    """Twenty rounds with a second copy of the model leave what was there before, within 5 %."""
    server = start(MODEL)
    assert httpx.post(server.url + "/invocations", json=GENERATE, timeout=60).status_code == 200
    before, after = resident_kib(server), []
    for _ in range(20):
        answer = register(server.url, MODEL, model_name="round")
        assert answer.status_code == 200, answer.text
        used = httpx.post(server.url + "/predictions/round", json=GENERATE, timeout=60)
        assert used.status_code == 200
        loaded = resident_kib(server)
        assert httpx.delete(server.url + "/models/round", timeout=60).status_code == 200
        after.append(resident_kib(server))
    print("resident KiB before:", before, "while loaded:", loaded, "after each round:", after)
    assert loaded > 1.5 * before
    assert abs(after[-1] - before) <= 0.05 * before, after

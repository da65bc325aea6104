"""Workers on GPUs are copies of the model: placed, scaled, lost and replaced while requests run, on emulated GPUs."""

import concurrent.futures
import json
import re
import time
import urllib.error
import urllib.request

import pytest

from emulated import Server, folder, needs_emulation  # noqa: F401 (a fixture)

pytestmark = needs_emulation
PROMPTS = ["The lighthouse keeper " + "and the sea " * i for i in range(20)]


@pytest.fixture
def serve(folder):
    running = []

    def launch(*flags, properties="", **variables):
        (folder / "serving.properties").write_text("option.dtype=fp32\n" + properties)
        running.append(Server(folder, *flags, **variables))
        assert running[-1].port, running[-1].stop()
        return running[-1]

    yield launch
    for one in running:
        one.stop()


def call(server, method, path):
    """The status and the JSON of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def groups(server):
    return call(server, "GET", "/models/m")[1][0]["models"][0]["workerGroups"]


def workers(server):
    """The ids of the workers of each group that take requests."""
    return [[w["id"] for w in group["workers"] if w["status"] == "READY"] for group in groups(server)]


def health(server):
    return call(server, "GET", "/ping")[1]["m"]["status"]


def memory(server, gpu):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics?name[]=GPUMemory_{gpu}", timeout=60) as answer:
        found = re.search(r"^GPUMemory_\d+\{Host=\"[^\"]+\"\} (\S+)$", answer.read().decode(), re.M)
    return float(found.group(1))


def eventually(truth, seconds=30):
    end = time.monotonic() + seconds
    while not truth() and time.monotonic() < end:
        time.sleep(0.05)
    assert truth()


def ask_all(server, meanwhile=lambda: None):
    """All prompts at once; `meanwhile` runs while they do."""
    with concurrent.futures.ThreadPoolExecutor(len(PROMPTS)) as pool:
        answers = [pool.submit(server.ask, prompt=prompt, max_tokens=60) for prompt in PROMPTS]
        meanwhile()
        return [answer.result() for answer in answers]


@pytest.fixture
def expected(serve):
    """What one copy alone says."""
    one = serve("--devices", "0")
    assert workers(one) == [[1]]
    texts = ask_all(one)
    one.stop()
    return texts


def test_a_copy_on_each_gpu_and_the_same_answers(serve, expected):
    server = serve()
    assert workers(server) == [[1], [2]]
    assert [group["device"] for group in groups(server)] == [{"deviceType": "gpu", "deviceId": i} for i in (0, 1)]
    assert all(re.match(r"20\d\d-", group["workers"][0]["startTime"]) for group in groups(server))
    assert memory(server, 0) > 1e6 and memory(server, 1) > 1e6
    assert ask_all(server) == expected
    assert health(server) == "Healthy"


def test_streams_notice_nothing_of_scaling(serve, expected):
    server = serve()
    full = memory(server, 1)
    seen = []

    def scale():
        for query in ("device=gpu1&max_worker=0", "device=1&min_worker=1&max_worker=1", "device=0&max_worker=0",
                      "min_worker=1&max_worker=1"):
            time.sleep(0.2)
            seen.append(call(server, "PUT", f"/models/m?{query}"))

    assert ask_all(server, scale) == expected
    assert [status for status, _ in seen] == [200] * 4, seen
    assert seen[0][1]["status"].endswith("min workers:0 max workers:0")
    assert seen[1][1]["status"].endswith("min workers:1 max workers:1")
    eventually(lambda: [len(ids) for ids in workers(server)] == [1, 1])
    assert call(server, "PUT", "/models/m?device=1&max_worker=0")[0] == 200
    eventually(lambda: memory(server, 1) < full / 10)  # Given back.
    assert len(workers(server)[0]) == 1
    assert ask_all(server) == expected


def test_what_cannot_be_scaled_to_is_refused_and_changes_nothing(serve):
    server = serve()
    status, answer = call(server, "PUT", "/models/m?device=0&min_worker=2&max_worker=2")
    assert (status, answer["type"]) == (507, "WlmOutOfMemoryException")
    assert "one more copy does not fit on GPU 0" in answer["message"]
    assert groups(server)[0]["maxWorkers"] == 1
    assert workers(server) == [[1], [2]]
    assert call(server, "PUT", "/models/m?device=-1&min_worker=1")[0] == 400
    assert call(server, "PUT", "/models/m?device=5&min_worker=1")[0] == 400
    assert call(server, "PUT", "/models/m?device=tpu&min_worker=1")[0] == 400
    assert server.ask()


def test_several_copies_on_one_gpu_where_the_cache_is_bounded(serve, expected):
    server = serve("--devices", "0", properties="gpu.maxWorkers=2\noption.kv_cache_bytes=33554432\n")
    assert workers(server) == [[1]]
    assert call(server, "PUT", "/models/m?min_worker=2")[0] == 200
    eventually(lambda: len(workers(server)[0]) == 2)
    assert ask_all(server) == expected


def test_a_lost_gpu_hands_its_streams_to_the_other_one(serve, expected):
    server = serve(TROUPE_EMULATED_FAULT_AT="4000", TROUPE_EMULATED_FAULT_DEVICE="1")
    for _ in range(3):
        assert ask_all(server) == expected
    eventually(lambda: health(server) == "Healthy")
    assert "copy 2: shard 0 died" in server.stop()


def test_without_one_of_its_gpus_a_model_is_unhealthy_and_serves(serve, expected):
    server = serve("--retry-threshold", "100", TROUPE_EMULATED_FAULT_AT="4000", TROUPE_EMULATED_FAULT_DEVICE="1",
                   TROUPE_EMULATED_FAULT_STAYS="1")
    for _ in range(3):  # The fault comes in one of them.
        assert ask_all(server) == expected
    eventually(lambda: health(server) == "Unhealthy")
    assert ask_all(server) == expected
    assert [worker["status"] for group in groups(server) for worker in group["workers"]] == ["READY", "LOADING"]
    assert "cannot use the GPU again" in call(server, "GET", "/models/m")[1][0]["models"][0]["reason"]


def test_tensor_parallel_degree_cuts_the_gpus_into_groups(serve):
    server = serve("--tensor-parallel-degree", "2", TROUPE_EMULATED_GPUS="5")
    assert workers(server) == [[1], [2]]
    assert [group["device"]["deviceId"] for group in groups(server)] == [0, 2]
    assert server.ask()
    assert call(server, "PUT", "/models/m?device=3&max_worker=0")[0] == 200
    eventually(lambda: workers(server) == [[1], []])
    bounded = serve("--tensor-parallel-degree", "2", properties="maxWorkers=1\n", TROUPE_EMULATED_GPUS="4")
    assert workers(bounded) == [[1], []]


def test_load_on_devices_is_where_copies_are(serve):
    server = serve("--devices", "gpu2;gpu0", TROUPE_EMULATED_GPUS="3")
    assert [group["device"]["deviceId"] for group in groups(server)] == [2, 0]
    assert workers(server) == [[1], [2]]


def test_copies_beyond_the_minimum_come_for_a_crowd_and_end_after_a_rest(serve, expected):
    server = serve("--max-rolling-batch-size", "4", properties="gpu.minWorkers=0\nmax_idle_time=1\n")
    assert workers(server) == [[1], []]
    grown = []
    assert ask_all(server, lambda: eventually(lambda: grown.append(1) or workers(server)[1] != [])) == expected
    eventually(lambda: workers(server) == [[1], []])
    assert server.ask()


def test_memory_to_be_kept_free_refuses_a_registration(serve, folder):
    server = serve()
    (folder / "serving.properties").write_text("option.load_format=dummy\ngpu.required_memory_mb=5000\n")
    status, answer = call(server, "POST", f"/models?url={folder}&model_name=second&device=0")
    assert (status, answer["type"]) == (507, "WlmOutOfMemoryException")
    assert "gpu.required_memory_mb (5000)" in answer["message"]
    assert server.ask()

"""Runs the example exchanges of the LMI contract against the real binary.

Examples with equal server settings share one server. What isn't served yet is listed by name in
WAITING; an example that is neither there nor passes fails the run.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from byte_model import make_byte_model  # noqa: E402
from conftest import MODEL, Server  # noqa: E402

from exchange import JSON, Client, envelope_mismatches, with_model  # noqa: E402
from relations import RELATIONS  # noqa: E402

# Enough where an example asks for no task, and so for no properties of a model.
DUMMY = "--dummy-model"
# What the examples call MODELS holds one model, called tiny.
MODELS = tempfile.TemporaryDirectory(prefix="troupe-contract-models-")
TINY = make_byte_model(pathlib.Path(MODELS.name) / "tiny")
FOLDER = pathlib.Path(__file__).with_name("examples")
EXAMPLES = {
    example["name"]: example
    for example in (json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json")))
}

_ENCODER = "tasks other than text generation are not served yet"

WAITING = {
    "text2text-single": _ENCODER,
    "text2text-num-return-sequences": _ENCODER,
    "text-classification-single": _ENCODER,
    "text-classification-pair-all-labels": _ENCODER,
    "text-classification-csv": _ENCODER,
    "token-classification-none": _ENCODER,
    "token-classification-simple-batch": _ENCODER,
    "question-answering-bare-object": _ENCODER,
    "question-answering-list": _ENCODER,
    "question-answering-top-k": _ENCODER,
    "table-question-answering": _ENCODER,
    "fill-mask-single": _ENCODER,
    "fill-mask-two-inputs-targets": _ENCODER,
    "fill-mask-without-mask": _ENCODER,
    "multiple-choice-ours": _ENCODER,
    "feature-extraction": _ENCODER,
    "adapter-register-lora-off": "adapters are not served yet",
}


@contextlib.contextmanager
def full_queue(client):
    """One request is generated, and one waits for its place in the batch."""
    endless = {
        "method": "POST",
        "path": "/predictions/MODEL",
        "headers": JSON,
        "body": {
            "inputs": "Hi",
            "parameters": {"max_new_tokens": 8000, "ignore_eos_token": True},
            "stream": True,
        },
    }
    held = []
    try:
        for gauge in ("troupe_requests_running", "troupe_requests_waiting"):
            held.append(client.open(endless))
            end = time.monotonic() + 30
            while client.gauge(gauge) < 1:
                assert time.monotonic() < end, f"{gauge} stays 0"
                time.sleep(0.01)
        yield
    finally:
        for connection in held:
            connection.close()
    end = time.monotonic() + 30
    while client.gauge("troupe_requests_running") or client.gauge("troupe_requests_waiting"):
        assert time.monotonic() < end, "requests outlive their clients"
        time.sleep(0.01)
    assert client.post("/predictions/MODEL", {"inputs": "Hi"}).status == 200


@contextlib.contextmanager
def as_it_is(client):
    """Nothing around the request."""
    yield


def with_models(request):
    """`request` with the folder of models in the place of the word MODELS."""
    return json.loads(json.dumps(request).replace("MODELS", MODELS.name.lstrip("/")))


def register(client, name):
    """Registers a tiny model under that name, if none has it."""
    if client.get(f"/models/{name}").status != 200:
        path = f"/models?url=file%3A%2F%2F%2FMODELS%2Ftiny&model_name={name}"
        answer = client.send(with_models({"method": "POST", "path": path}))
        assert answer.status == 200, answer.text


def unregister(client, name):
    """What an asynchronous registration has left must have come to an end."""
    end = time.monotonic() + 30
    while "PENDING" in client.get(f"/models/{name}").text:
        assert time.monotonic() < end, f"{name} does not get ready"
        time.sleep(0.01)
    answer = client.send({"method": "DELETE", "path": f"/models/{name}"})
    assert answer.status in (200, 404), answer.text


def without(name):
    @contextlib.contextmanager
    def around(client):
        unregister(client, name)
        yield
        unregister(client, name)

    return around


def having(*names):
    @contextlib.contextmanager
    def around(client):
        for name in names:
            register(client, name)
        yield
        for name in names:
            unregister(client, name)

    return around


@contextlib.contextmanager
def failed(client):
    """The model has been given up."""
    end = time.monotonic() + 30
    while client.send({"method": "GET", "path": "/ping"}).status != 500:
        assert time.monotonic() < end, "the broken model does not fail"
        time.sleep(0.01)
    yield


def stuck_model(folder):
    """A copy of the model whose tokenizer never comes to an end, until `release` ends it."""
    copy = linked_model(folder)
    (copy / "tokenizer.json").unlink()
    os.mkfifo(copy / "tokenizer.json")
    return copy


def release_model(folder):
    with contextlib.suppress(OSError):
        os.close(os.open(folder / "model" / "tokenizer.json", os.O_WRONLY | os.O_NONBLOCK))


def broken_model(folder):
    """A copy of the model whose weights are cut off."""
    copy = linked_model(folder)
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").write_bytes(b"\x08\0\0\0")
    return copy


def linked_model(folder):
    copy = folder / "model"
    copy.mkdir()
    for file in MODEL.iterdir():
        (copy / file.name).symlink_to(file)
    return copy


@dataclasses.dataclass
class State:
    """What an example's `state` asks for."""

    options: dict = dataclasses.field(default_factory=dict)  # Beside the example's own.
    around: callable = as_it_is  # The situation around its request.
    model: callable = None  # Makes a model in a folder, in the place of the one that is served.
    release: callable = lambda folder: None  # Before the server is stopped.
    store: bool = False  # Whether the server starts with two models instead of one.


STATES = {
    None: State(),
    "model echoes a known continuation containing a full stop": State(),
    "all workers busy, one request already queued": State(
        {"option.max_rolling_batch_size": "1"}, full_queue
    ),
    "model still loading": State(model=stuck_model, release=release_model),
    "model load failed": State(around=failed, model=broken_model),
    "two start-up models": State(store=True),
    "server with no model called tiny": State(around=without("tiny")),
    "server with no model called later": State(around=without("later")),
    "tiny already registered": State(around=having("tiny")),
    "tiny registered": State(around=having("tiny")),
    "tiny registered and READY": State(around=having("tiny")),
    "three models registered": State(around=having("tiny", "tiny2")),
}


def runnable(example):
    """Whether everything that the example's `server` part asks for can be set up here."""
    server = example["server"]
    known = set(server) <= {"task", "properties", "env", "config", "state"}
    task = server.get("task", "text-generation")
    return known and task == "text-generation" and server.get("state") in STATES


def launch_key(example):
    """What a server must be started with; equal for examples that share one."""
    server = example["server"]
    state = STATES[server.get("state")]
    options = {**server.get("properties", {}), **state.options}
    model = str(MODEL) if "task" in server or state.model else DUMMY
    config = {"SERVING_" + name.upper(): text for name, text in server.get("config", {}).items()}
    env = {**server.get("env", {}), **config}
    made = server["state"] if state.model or state.store else None
    return model, tuple(sorted(options.items())), tuple(sorted(env.items())), made


# Sorted by server, so that one runs at a time. Those that wait are sent too where it can be done:
# one that has come to pass must leave the table.
ORDER = sorted(
    (name for name, one in EXAMPLES.items() if name not in WAITING or runnable(one)),
    key=lambda name: (str(launch_key(EXAMPLES[name])), name),
)


def model_folder(model, options, state):
    """A folder whose serving.properties has `options`, in the place of the model's own."""
    folder = tempfile.TemporaryDirectory(prefix="troupe-contract-")
    if state.model:
        model = state.model(pathlib.Path(folder.name))
    lines = [f"{name}={value}\n" for name, value in (("option.model_id", model), *options)]
    pathlib.Path(folder.name, "serving.properties").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def clients():
    """Gives the client of a server with the settings asked for, which replaces the one before."""
    now = {}

    def stop():
        if now:
            server, folder, state = now.pop("server"), now.pop("folder"), now.pop("state")
            now.clear()
            state.release(pathlib.Path(folder.name))
            assert server.stop() == 0, server.output()
            folder.cleanup()

    def client_for(key):
        if now.get("key") != key:
            stop()
            model, options, env, made = key
            state = STATES[made]
            folder = model_folder(model, options, state)
            places = [model if model == DUMMY else folder.name]
            if state.store:
                places = ["-m", f"[one]={TINY}", "-m", f"[two]={TINY}"]
            server = Server(*places, env=dict(env))
            now.update(key=key, server=server, folder=folder, state=state)
            now.update(client=Client(server.url))
        return now["client"]

    yield client_for
    stop()


@pytest.mark.parametrize("name", ORDER)
def test_example(name, clients):
    example = EXAMPLES[name]
    assert runnable(example), f"the server part of {name} needs its code in STATES"
    client = clients(launch_key(example))
    request = with_models(example["request"])
    with STATES[example["server"].get("state")].around(client):
        answer = client.send(request)
    wrong = answer.mismatches(with_model(example["response"], client.model))
    if name in WAITING:
        assert wrong, "it passes: take it out of WAITING"
        return
    wrong += envelope_mismatches(request, answer)
    assert not wrong, "\n".join([*wrong, answer.text])
    if name in RELATIONS:
        RELATIONS[name](client, request, answer)


def test_all_examples_are_there_and_each_has_its_own_name():
    assert len(EXAMPLES) == len(list(FOLDER.glob("*.json"))) == 64


def test_nothing_waits_and_nothing_is_related_that_does_not_exist():
    assert set(WAITING) <= set(EXAMPLES)
    assert set(RELATIONS) <= set(EXAMPLES) - set(WAITING)

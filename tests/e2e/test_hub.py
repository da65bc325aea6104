"""Models by id: from the hub's cache, or downloaded from a hub of the tests' own."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
import tiny_model
from conftest import BINARY
from fake_hub import COMMIT, FakeHub, sha256
from huggingface_hub import try_to_load_from_cache

WEIGHTS = "model.safetensors"


FILES = tiny_model.files()


def contents():
    return FILES | {"README.md": b"not wanted", "pytorch_model.bin": b"not wanted either"}


@pytest.fixture
def hub():
    running = FakeHub({"org/tiny": contents()})
    yield running
    running.close()


def generate(hub_url, home, *arguments, model="org/tiny", **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), **variables}
    return subprocess.run(
        [str(BINARY), "generate", model, "--prompt", "Hi", "--max-new-tokens", "3", "-q", *arguments],
        capture_output=True, timeout=60, env=environment,
    )


def test_a_model_is_downloaded_into_the_layout_of_the_hubs_own_client(hub, tmp_path):
    done = generate(hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "hub/models--org--tiny"
    assert (folder / "refs/main").read_text() == COMMIT
    snapshot = folder / "snapshots" / COMMIT
    assert (snapshot / WEIGHTS).read_bytes() == contents()[WEIGHTS]
    assert (snapshot / WEIGHTS).is_symlink()
    names = {p.name for p in snapshot.iterdir()}
    assert "config.json" in names and not names & {"README.md", "pytorch_model.bin"}
    found = try_to_load_from_cache("org/tiny", WEIGHTS, cache_dir=tmp_path / "hub")
    assert pathlib.Path(found) == snapshot / WEIGHTS


def test_what_is_there_is_not_downloaded_again(hub, tmp_path):
    assert generate(hub.url, tmp_path).returncode == 0
    hub.requests.clear()
    assert generate(hub.url, tmp_path).returncode == 0
    assert hub.requests and not hub.downloads()


def test_offline_and_without_a_hub_the_cache_does(hub, tmp_path):
    assert generate(hub.url, tmp_path).returncode == 0
    hub.requests.clear()
    assert generate(hub.url, tmp_path, HF_HUB_OFFLINE="1").returncode == 0
    assert not hub.requests
    assert generate("http://127.0.0.1:9", tmp_path).returncode == 0
    done = generate("http://127.0.0.1:9", tmp_path / "elsewhere")
    assert done.returncode == 1 and b"the hub does not answer" in done.stderr


def test_a_cut_connection_goes_on_where_it_ended(hub, tmp_path):
    hub.cut_after[WEIGHTS] = 10_000
    done = generate(hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    ranges = [r[2] for r in hub.downloads() if r[1].startswith("/cdn/")]
    assert ranges == [None, "bytes=10000-"]


def test_a_stopped_download_goes_on_the_next_time(hub, tmp_path):
    folder = tmp_path / "hub/models--org--tiny/blobs"
    folder.mkdir(parents=True)

    weights = contents()[WEIGHTS]
    (folder / f"{sha256(weights)}.incomplete").write_bytes(weights[:5000])
    assert generate(hub.url, tmp_path).returncode == 0
    assert [r[2] for r in hub.downloads() if r[1].startswith("/cdn/")] == ["bytes=5000-"]


def test_the_token_goes_to_the_hub_and_not_beyond(hub, tmp_path):
    hub.token = "hf_secret"
    done = generate(hub.url, tmp_path)
    assert done.returncode == 1
    assert b"HF_TOKEN" in done.stderr and b"org/tiny" in done.stderr
    done = generate(hub.url, tmp_path, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert b"hf_secret" not in done.stderr + done.stdout
    for _, path, _, has_token in hub.requests:
        assert not (path.startswith("/cdn/") and has_token)


def test_a_hub_that_lists_no_checksums_is_asked_file_by_file(hub, tmp_path):
    hub.lists_checksums = False
    done = generate(hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(r[0] == "HEAD" for r in hub.requests)


def test_a_damaged_download_is_not_kept(hub, tmp_path):
    hub.spoiled.add(WEIGHTS)
    done = generate(hub.url, tmp_path)
    assert done.returncode == 1 and b"checksum" in done.stderr
    hub.spoiled.clear()
    assert generate(hub.url, tmp_path).returncode == 0


def test_an_unknown_model_or_revision_is_named(hub, tmp_path):
    done = generate(hub.url, tmp_path, model="org/other")
    assert done.returncode == 1 and b"org/other" in done.stderr and b"404" in done.stderr
    done = generate(hub.url, tmp_path, HF_REVISION="v9")
    assert done.returncode == 1 and b"revision v9" in done.stderr
    assert generate(hub.url, tmp_path, HF_REVISION=COMMIT).returncode == 0


def test_a_folder_names_its_model_by_id(hub, tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "serving.properties").write_text("option.model_id=org/tiny\noption.revision=main\n")
    done = generate(hub.url, tmp_path, model=str(folder))
    assert done.returncode == 0, done.stderr


def test_a_signal_ends_a_download(tmp_path):
    files = contents()
    with_stall = FakeHub({"org/tiny": files})
    # The body never comes to its end, and the connection stays.
    send_file = with_stall.send_file

    def stall(request, name, with_body):
        if with_body and name.endswith(WEIGHTS):
            request.send_response(200)
            request.send_header("Content-Length", str(len(files[WEIGHTS])))
            request.end_headers()
            request.wfile.write(files[WEIGHTS][:1000])
            request.wfile.flush()
            time.sleep(20)
            return None
        return send_file(request, name, with_body)

    with_stall.send_file = stall
    environment = os.environ | {"HF_ENDPOINT": with_stall.url, "HF_HOME": str(tmp_path)}
    running = subprocess.Popen([str(BINARY), "serve", "org/tiny", "--port", "0"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    blobs = tmp_path / "hub/models--org--tiny/blobs"
    end = time.monotonic() + 20
    while time.monotonic() < end and not list(blobs.glob("*.incomplete")):
        time.sleep(0.05)
    time.sleep(2.5)
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 1
    said = running.stderr.read()
    assert b"stopped while" in said
    assert b"fetching org/tiny: model.safetensors, 0 MiB of " in said
    with_stall.close()

"""Models out of archives, stores and the environment; `troupe check` and `troupe options`."""

import http.server
import os
import subprocess
import tarfile
import threading
import zipfile

import httpx
import pytest
import tiny_model
from conftest import BINARY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("models") / "tiny")


def run(*arguments, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True,
                          timeout=60, env=environment | variables)


def generate(url, cache, **variables):
    return run("generate", url, "-p", "Hi", "-n", "3", "-q", "-o", f"download_dir={cache}", **variables)


def packed(folder, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"{folder.name}/{file.name}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", ["tiny.zip", "tiny.tar.gz"])
def test_an_archive_is_unpacked_once(folder, tmp_path, name):
    archive = packed(folder, tmp_path / name)
    assert generate(archive, tmp_path / "cache").returncode == 0
    before = sorted(p for p in (tmp_path / "cache").rglob("*"))
    done = generate(f"file://{archive}", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert sorted(p for p in (tmp_path / "cache").rglob("*")) == before


def test_an_archive_of_another_server_is_fetched(folder, tmp_path):
    (tmp_path / "www").mkdir()
    packed(folder, tmp_path / "www/tiny.tgz")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "www")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = generate(f"{url}/tiny.tgz", tmp_path / "cache")
        assert done.returncode == 0, done.stderr
        done = generate(f"{url}/other.tgz", tmp_path / "cache")
        assert done.returncode == 1 and "404" in done.stderr
        server.shutdown()


def test_a_hostile_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        entry = tarfile.TarInfo("../../evil")
        archive.addfile(entry)
    done = generate(tmp_path / "evil.tar", tmp_path / "cache")
    assert done.returncode == 1 and "outside of its folder" in done.stderr


def test_check_says_what_would_happen(folder, tmp_path):
    done = run("check", folder)
    assert done.returncode == 0, done.stderr
    assert "served as     tiny" in done.stdout and "continuous" in done.stdout
    (tmp_path / "serving.properties").write_text(
        f"option.model_id={folder}\noption.dtpye=bf16\nbatch_size=4\noption.rolling_batch=scheduler\n")
    done = run("check", tmp_path)
    assert done.returncode == 0
    assert "did you mean option.dtype?" in done.stdout
    assert "calls in batches of up to 4" in done.stdout
    assert run("check", tmp_path, "--strict").returncode == 1
    assert run("check", tmp_path / "missing").returncode == 1
    done = run("check", "org/name", HF_HOME=str(tmp_path))
    assert done.returncode == 1 and "org/name" in done.stdout


def test_check_looks_at_every_model_of_a_store(folder, tmp_path):
    (tmp_path / "a").symlink_to(folder)
    packed(folder, tmp_path / "b.zip")
    done = run("check", "-s", tmp_path, "-o", f"download_dir={tmp_path.parent}/cache")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("served as") == 2


def test_options_says_where_values_come_from(folder, tmp_path):
    (tmp_path / "serving.properties").write_text("option.dtype=bf16\n")
    (tmp_path / "weights").write_text("")
    done = run("options", tmp_path, "--io-threads", "3", TENSOR_PARALLEL_DEGREE="max",
               SERVING_KEYSTORE_PASS="open-sesame", SAGEMAKER_MAX_PAYLOAD_IN_MB="7")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert f"{tmp_path}/serving.properties:1" in lines["option.dtype"]
    assert "flag --io-threads" in lines["number_of_netty_threads"]
    assert "variable TENSOR_PARALLEL_DEGREE" in lines["option.tensor_parallel_degree"]
    assert "variable SAGEMAKER_MAX_PAYLOAD_IN_MB" in lines["max_request_size"]
    assert "7340032" in lines["max_request_size"]
    assert "***" in lines["keystore_pass"] and "open-sesame" not in done.stdout + done.stderr


def test_the_environment_names_a_model(folder):
    done = run("generate", "-p", "Hi", "-n", "2", "-q", HF_MODEL_ID=str(folder))
    assert done.returncode == 0, done.stderr
    done = run("generate", "-p", "Hi")
    assert done.returncode == 1 and "HF_MODEL_ID" in done.stderr


def test_an_archive_is_registered_and_what_is_not_there_is_not_found(start, folder, tmp_path):
    archive = packed(folder, tmp_path / "late.tar.gz")
    server = start("--dummy-model", "-o", f"download_dir={tmp_path / 'cache'}",
                   env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    answer = httpx.post(server.url + "/models", params={"url": str(archive), "batch_size": 2}, timeout=60)
    assert answer.status_code == 200, answer.text
    model = httpx.get(server.url + "/models/late").json()[0]["models"][0]
    assert model["batchSize"] == 2 and model["modelUrl"] == str(archive)
    answer = httpx.post(server.url + "/predictions/late", timeout=60,
                        json={"inputs": "Hi", "parameters": {"max_new_tokens": 2}})
    assert answer.status_code == 200
    for url in ("org/other", str(tmp_path / "missing"), str(tmp_path)):
        answer = httpx.post(server.url + "/models", params={"url": url}, timeout=60)
        assert answer.status_code == 404, answer.text
    answer = httpx.post(server.url + "/models", params={"url": str(archive), "model_name": "x",
                                                        "batch_size": "many"}, timeout=60)
    assert 400 <= answer.status_code < 500

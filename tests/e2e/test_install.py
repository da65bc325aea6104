"""An installed Troupe is found by another CMake project, which builds and runs."""

import os
import shutil
import subprocess

import pytest
from conftest import BINARY, ROOT

BUILD = BINARY.parent.parent


def run(*command, **keywords):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **keywords)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    where = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", where)
    return where


def test_the_installed_program_runs(prefix):
    assert run(prefix / "bin/troupe", "--version").startswith("troupe ")


def test_a_host_application_finds_and_runs_an_engine(prefix, tmp_path):
    shutil.copytree(ROOT / "examples/embed", tmp_path / "embed")
    run("cmake", "-S", tmp_path / "embed", "-B", tmp_path / "build", "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "build")
    said = run(tmp_path / "build/embed", env={**os.environ, "LD_LIBRARY_PATH": ""})
    lines = said.splitlines()
    assert lines[0].startswith("chat: ")
    assert len(lines) >= 2 and lines[1]


def test_installed_headers_bring_no_heavy_library(prefix):
    for header in (prefix / "include/troupe").rglob("*.hpp"):
        text = header.read_text()
        for heavy in ("<ATen/", "<torch/", "<boost/", "<spdlog/"):
            assert heavy not in text, header

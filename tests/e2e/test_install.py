"""An installed Troupe is found by other projects, which build and run."""

import os
import re
import subprocess

import httpx
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


@pytest.fixture(scope="module")
def embed(prefix, tmp_path_factory):
    """examples/embed as a project of its own, from where its sources were installed."""
    build = tmp_path_factory.mktemp("embed")
    run("cmake", "-S", prefix / "share/doc/troupe-dev/examples/embed", "-B", build, "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    return build / "embed"


def test_the_installed_program_runs(prefix):
    assert run(prefix / "bin/troupe", "--version").startswith("troupe ")


@pytest.mark.parametrize("program, command", [("troupe", ["serve"]), ("troupe", ["generate"]), ("troupe-load", [])])
def test_the_manual_page_names_every_flag(prefix, program, command):
    if not (BUILD / "bin" / program).exists():
        pytest.skip(f"{program} is not part of this build")
    page = (prefix / f"share/man/man1/{program}.1").read_text().replace("\\-", "-")
    flags = re.findall(r"^  (?:-\w,)?(--[\w-]+)", run(prefix / "bin" / program, *command, "--help"), re.MULTILINE)
    assert len(flags) > 9
    assert [flag for flag in flags if flag not in page] == []
    assert page.startswith(f".TH {program.upper()} 1")


@pytest.mark.parametrize("typed, offered", [("troupe s", ["serve"]), ("troupe serve --publish-p", ["--publish-port"]),
                                            ("troupe serve --log-format j", ["json"])])
def test_bash_completes_commands_flags_and_values(prefix, typed, offered):
    script = prefix / "share/bash-completion/completions/troupe"
    words = typed.split()
    said = run("bash", "-c", f'source {script}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; '
               '_troupe; printf "%s\\n" "${COMPREPLY[@]}"')
    assert said.split() == offered


def test_a_host_application_runs_an_engine_among_its_own_actors(embed):
    with subprocess.Popen([embed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "LD_LIBRARY_PATH": ""}) as host:
        whole = host.stdout.readline()
        cancelled = host.stdout.readline()
        url = re.match(r"(http://\S+) until", host.stdout.readline()).group(1)
        models = httpx.get(url + "/v1/models").json()["data"]
        answer = httpx.post(url + "/v1/completions", json={"model": "draft", "prompt": "x", "max_tokens": 3}).json()
        said, complaints = host.communicate("\n", timeout=30)
    assert host.returncode == 0, complaints
    assert whole.startswith("16 tokens: ") and len(whole) > 20
    assert 5 <= int(cancelled.split()[0]) < 1000 and cancelled.split()[1] == "tokens:"
    assert {model["id"] for model in models} == {"chat", "draft"}
    assert answer["usage"]["completion_tokens"] == 3
    assert "the engine has ended" in said


def test_the_example_is_short():
    assert len((ROOT / "examples/embed/main.cpp").read_text().splitlines()) < 100


def test_pkg_config_compiles_and_links_the_example(prefix, tmp_path):
    env = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "--static", "troupe", env=env).split()
    run("c++", "-std=c++20", "-O0", ROOT / "examples/embed/main.cpp", "-o", tmp_path / "embed", *flags)
    done = subprocess.run([tmp_path / "embed"], input="\n", capture_output=True, text=True, timeout=60,
                          env={**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib")})
    assert done.returncode == 0 and "16 tokens: " in done.stdout, done.stderr
    version = run("pkg-config", "--modversion", "troupe", env=env).strip()
    assert run(prefix / "bin/troupe", "--version").strip() == f"troupe {version}"


def test_a_project_without_caf_is_told_what_to_install(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(p CXX)\n"
        "set(CAF_CORE_LIBRARY CAF_CORE_LIBRARY-NOTFOUND)\nset(CMAKE_FIND_ROOT_PATH /nowhere)\n"
        "set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)\nfind_package(troupe REQUIRED CONFIG)\n")
    done = subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja",
                           f"-Dtroupe_DIR={prefix}/lib/cmake/troupe"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "libcaf-dev" in done.stderr


def test_every_installed_header_compiles_alone(prefix, tmp_path):
    root = prefix / "include"
    for header in sorted((root / "troupe").rglob("*.hpp")):
        if header.name == "inspect.hpp":
            continue  # included at the end of interfaces.hpp, which says so
        run("c++", "-std=c++20", "-fsyntax-only", "-x", "c++", "-Wno-pragma-once-outside-header", "-I", root, header)


def test_installed_headers_bring_no_heavy_library(prefix):
    for header in (prefix / "include/troupe").rglob("*.hpp"):
        text = header.read_text()
        for heavy in ("<ATen/", "<torch/", "<boost/", "<spdlog/"):
            assert heavy not in text, header

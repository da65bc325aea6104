"""The Debian packages: what is in them, and that they install and run where nothing of ours has been."""

import os
import re
import shutil
import subprocess

import httpx
import pytest
from conftest import BINARY, MODEL, ROOT
from test_install import run

BUILD = BINARY.parent.parent
DEBIAN = ROOT / ".cache/debian-bookworm.tar"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    where = tmp_path_factory.mktemp("packages")
    run("cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", where, cwd=where)
    return {path.name.split("_")[0]: path for path in where.glob("*.deb")}


def field(package, name):
    return run("dpkg-deb", "-f", package, name).strip()


def content(package):
    lines = run("dpkg-deb", "-c", package).splitlines()
    assert all(" root/root " in line for line in lines)
    return {line.split()[5].removeprefix(".") for line in lines}


def test_the_package_holds_program_library_and_manual(packages):
    names = content(packages["troupe"])
    for name in ("/usr/bin/troupe", "/usr/lib/libtroupe.so.0.1", "/usr/share/man/man1/troupe.1.gz",
                 "/usr/share/doc/troupe/copyright", "/usr/share/doc/troupe/docs/embedding.md"):
        assert name in names
    assert not [name for name in names if name.endswith((".hpp", ".a", ".cmake", ".pc"))]
    assert not [name for name in names if name.startswith(("/etc", "/usr/local"))]
    assert packages["troupe"].name == f"troupe_{field(packages['troupe'], 'Version')}_amd64.deb"


def test_development_files_have_a_package_of_their_own(packages):
    names = content(packages["troupe-dev"])
    for name in ("/usr/include/troupe/runtime/embed.hpp", "/usr/lib/libtroupe.so", "/usr/lib/pkgconfig/troupe.pc",
                 "/usr/lib/cmake/troupe/troupeConfig.cmake", "/usr/lib/cmake/troupe/FindCAF.cmake"):
        assert name in names
    assert "libcaf-dev" in field(packages["troupe-dev"], "Depends")
    assert f"troupe (= {field(packages['troupe'], 'Version')})" in field(packages["troupe-dev"], "Depends")


def test_every_library_that_is_needed_is_depended_on(packages, tmp_path):
    run("dpkg-deb", "-x", packages["troupe"], tmp_path)
    depends = field(packages["troupe"], "Depends")
    for part in ("usr/bin/troupe", "usr/lib/libtroupe.so.0.1"):
        # What those need in turn is for their packages to say.
        for name in re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", tmp_path / part)):
            owners = {line.split(":")[0] for line in run("dpkg", "-S", f"*/{name}").splitlines()}
            assert [owner for owner in owners if owner in depends], name
    assert run(tmp_path / "usr/bin/troupe", "--version") == f"troupe {field(packages['troupe'], 'Version')}\n"
    control = run("dpkg-deb", "-I", packages["troupe"])
    assert "conffiles" not in control


@pytest.fixture(scope="module")
def clean_root(packages, tmp_path_factory):
    """A Debian root that holds nothing but Debian and our packages."""
    if "TROUPE_SOAK_SECONDS" not in os.environ:
        pytest.skip("long: run `make test-long`")
    if os.getuid() != 0:
        pytest.skip("changing into another root needs root")
    assert DEBIAN.exists(), "run tools/setup debian"
    root = tmp_path_factory.mktemp("root")
    run("tar", "-C", root, "-xf", DEBIAN)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    for package in packages.values():
        shutil.copy(package, root / "tmp")
    shutil.copytree(MODEL, root / "srv/model")
    inside(root, "apt-get", "update", "-q")
    inside(root, "apt-get", "install", "-q", "-y", "--no-install-recommends",
           f"/tmp/{packages['troupe'].name}")
    yield root
    shutil.rmtree(root)


def inside(root, *command):
    return run("chroot", root, *command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
                                             "DEBIAN_FRONTEND": "noninteractive"})


def test_it_runs_in_a_clean_debian(clean_root):
    assert inside(clean_root, "troupe", "--version").startswith("troupe ")
    assert inside(clean_root, "troupe", "generate", "--dummy-model", "-p", "x", "-n", "5", "-q").strip()
    assert "LlamaForCausalLM" in inside(clean_root, "troupe", "inspect", "/srv/model")


@pytest.mark.parametrize("what", ["--dummy-model", "/srv/model"])
def test_it_serves_in_a_clean_debian(clean_root, what):
    with subprocess.Popen(["chroot", clean_root, "troupe", "serve", what, "--port", "0"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            said = ""
            while not (found := re.search(r"on (http://\S+)", said)):
                line = server.stdout.readline()
                assert line, said
                said += line
            answer = httpx.post(found.group(1) + "/invocations", timeout=30,
                                json={"inputs": "x", "parameters": {"max_new_tokens": 3, "ignore_eos_token": True}})
            assert answer.status_code == 200 and "generated_text" in answer.json()
        finally:
            server.terminate()
            assert server.wait(20) == 0


def test_an_application_is_built_there_against_the_development_package(clean_root, packages):
    inside(clean_root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "g++", "cmake", "make",
           f"/tmp/{packages['troupe-dev'].name}")
    inside(clean_root, "cmake", "-S", "/usr/share/doc/troupe-dev/examples/embed", "-B", "/tmp/embed")
    inside(clean_root, "cmake", "--build", "/tmp/embed")
    done = subprocess.run(["chroot", clean_root, "/tmp/embed/embed", "-f", "/srv/model"], input="\n", text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0 and "16 tokens: " in done.stdout, done.stdout + done.stderr


def test_it_leaves_nothing_behind(clean_root):
    inside(clean_root, "apt-get", "purge", "-q", "-y", "troupe")
    assert not (clean_root / "usr/bin/troupe").exists()
    assert not (clean_root / "usr/share/doc/troupe").exists()

"""hotfire's own images: what is in them, what must not be, and with whose account they are pushed."""

import base64
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hotfire.errors import BadInput
from hotfire.stand import images, own
from hotfire.stand.embedded import oci
from hotfire.stand.registries import AUTH, registry_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app layer of the watchdog's image, unpacked."""
    return unpacked("hotfire", tmp_path_factory.mktemp("layer"))


def unpacked(name: str, folder: Path) -> Path:
    layout = images.build(name, lambda _: None)
    layer = json.loads(oci.image(layout)[1])["layers"][1]["digest"]
    with tarfile.open(oci.blob(layout, layer)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "app" / "site"


def python(site: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """No site-packages of this machine: only what the layer holds."""
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-S", "-c", code], env=environment, cwd="/", capture_output=True, text=True)


def test_the_watchdog_starts_from_the_image_alone(site: Path) -> None:
    ended = python(site, "import hotfire.rollout.watchdog as w; print(w.__file__)")
    assert ended.returncode == 0 and ended.stdout.strip().startswith(str(site)), ended.stderr


@pytest.mark.parametrize(
    "module", ["pytest", "locust", "gevent", "allure", "allure_pytest", "numpy", "hotfire.plugin", "hotfire.load"]
)
def test_nothing_that_judges_or_loads_is_in_the_image(site: Path, module: str) -> None:
    ended = python(site, f"import {module}")
    assert ended.returncode == 1 and "ModuleNotFoundError" in ended.stderr


@pytest.mark.parametrize("module", ["kubernetes", "pydantic", "yaml", "httpx"])
def test_what_helpers_need_is_in_the_image(site: Path, module: str) -> None:
    assert python(site, f"import {module}").returncode == 0


@pytest.mark.parametrize("name", own.IMAGES)
def test_the_lock_of_an_image_is_a_part_of_the_whole_lock(name: str) -> None:
    lock = own.lock_of(name).read_text()
    assert lock == own.filtered(own.WHOLE.read_text(), own.needed(own.IMAGES[name].roots)), "run `make lock`"
    assert "://" not in lock


def test_the_load_starts_from_its_image_alone(tmp_path: Path) -> None:
    site = unpacked("hotfire-load", tmp_path)
    ended = python(site, "import sys; sys.argv[1:] = ['--help']; import runpy; runpy.run_module('hotfire.load')")
    assert ended.returncode == 0 and "Carry a plan to a target." in ended.stdout, ended.stderr
    assert python(site, "import hotfire.load.echo, numpy").returncode == 0
    assert "ModuleNotFoundError" in python(site, "import kubernetes").stderr


def test_an_account_comes_from_the_environment_or_the_docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv(AUTH, raising=False)
    with pytest.raises(BadInput, match=r"no account for registry\.example:5000"):
        registry_of("registry.example:5000/team/hotfire")
    encoded = base64.b64encode(b"me:s3cret:x").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example:5000": {"auth": encoded}}}))
    registry, name = registry_of("registry.example:5000/team/hotfire")
    assert (registry.user, registry.password, registry.scheme, name) == ("me", "s3cret:x", "https", "team/hotfire")
    monkeypatch.setenv(AUTH, "you:other")
    assert registry_of("registry.example:5000/team/hotfire", True)[0].user == "you"


@pytest.mark.parametrize("target", ["hotfire", "registry.example/", "registry.example/a:1", "registry.example/a@sha256:1"])
def test_a_target_that_is_no_repository_is_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTH, "you:other")
    with pytest.raises(BadInput, match="REGISTRY/NAME"):
        registry_of(target)

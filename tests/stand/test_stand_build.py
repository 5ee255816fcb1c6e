"""The stand's binaries: built by a real Go, once, whole or not at all."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hotfire.errors import HarnessError
from hotfire.stand.embedded import build
from hotfire.stand.embedded.lifecycle import Running

ONE = next(c for c in build.COMPONENTS if c.name == "cni")
SCRIPT = "import sys; from hotfire.stand.embedded import build as b; b.build(b.COMPONENTS[0], lambda s: print(s, flush=True))"


def test_two_builders_at_once_build_a_component_once(tmp_path: Path) -> None:
    compiled = subprocess.run([build.go(print), "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "GOCACHE": compiled}
    argv = [sys.executable, "-c", SCRIPT]
    both = [subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [child.communicate(timeout=200)[0] for child in both]
    assert sum(text.count("built cni in") for text in told) == 1
    assert [p.name for p in (tmp_path / "hotfire/bin").iterdir() if p.is_dir()] == [ONE.folder.name]


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni" / "go.mod").write_text("module x\n\ngo 1.26.0\n\ntool example.invalid/none\n")
    (tmp_path / "cni" / "go.sum").touch()
    none = replace(ONE, modules=tmp_path)
    with pytest.raises(HarnessError, match=r"go build of cni failed: .*example.invalid"):
        build.build(none, lambda _: None)
    assert not none.folder.exists()


def test_official_binaries_are_taken_from_their_folder(embedded: Running) -> None:
    found = build.binaries(embedded.stand.state / "bin", lambda _: None)
    assert found["kubelet"].name == "kubelet" and found["etcd"].is_file()

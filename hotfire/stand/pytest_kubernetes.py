"""kind, k3d and minikube through pytest-kubernetes, of which only create, delete and load_image are used.

What it must not be trusted with is kept from it (facts: harnesses 3.2): it gets a kubeconfig of its own in a private
folder, never the user's file, and it deletes only a cluster that this object made.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pytest_kubernetes.options import ClusterOptions  # type: ignore[import-untyped]
from pytest_kubernetes.providers import select_provider_manager  # type: ignore[import-untyped]

from hotfire.errors import BadInput, HarnessError
from hotfire.words import Provider

CREATE_S = 300


@dataclass(frozen=True)
class Provided:
    """A cluster made for this session. kubeconfig: 0600, gone with the cluster."""

    provider: str
    name: str
    kubeconfig: Path
    manager: Any

    def load_image(self, image: str) -> None:
        """Put an image of the local engine onto its nodes. The name goes through a shell there, so it is quoted here."""
        _tried(f"{self.provider} cannot load {image}", lambda: self.manager.load_image(shlex.quote(image)))


@contextmanager
def provided(provider: str, name: str, *, version: str = "1.36.3") -> Iterator[Provided]:
    """A cluster of that provider for the length of the block. Raises BadInput when its programs are missing.

    A cluster that was there before is refused, not adopted: what this did not make, it must not delete.
    """
    if provider not in [*Provider]:
        raise BadInput(f"provider {provider!r}: {', '.join(Provider)}")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,29}", name):
        raise BadInput(f"cluster name {name!r}: 1 to 30 of a-z, 0-9 and -, beginning with a letter")
    for program in (provider, "kubectl"):
        if shutil.which(program) is None:
            raise BadInput(
                f"provider {provider} needs {program} on PATH: install it, or use --kubeconfig or `hotfire stand up`"
            )
    with tempfile.TemporaryDirectory(prefix="hotfire-cluster-") as folder:
        kubeconfig = Path(folder) / "config"
        kubeconfig.touch(mode=0o600)
        manager = honest(select_provider_manager(provider))(name)
        if provider == "minikube" and _minikube_has(manager.cluster_name):  # `minikube start` would adopt it
            raise BadInput(f"minikube has a cluster {manager.cluster_name}: delete it, or name another")
        # an empty kubeconfig sends kubectl to localhost:8080, which a stranger's cluster may hold: one that answers nowhere
        kubeconfig.write_text(yaml.safe_dump(NOWHERE))
        options = ClusterOptions(api_version=version, kubeconfig_path=kubeconfig, cluster_timeout=CREATE_S)
        before = os.environ.get("KUBECONFIG")
        try:
            _tried(f"{provider} cannot make the cluster {name}", lambda: manager.create(options, timeout=60))
            kubeconfig.chmod(0o600)
            yield Provided(provider, name, kubeconfig, manager)
        finally:
            _tried(f"{provider} cannot delete the cluster {name}", manager.delete)
            os.environ.pop("KUBECONFIG", None)  # minikube's manager leaves its own behind (P11)
            os.environ.update({} if before is None else {"KUBECONFIG": before})


def _minikube_has(cluster: str) -> bool:
    home = Path(os.environ.get("MINIKUBE_HOME") or Path.home())
    return any((folder / "profiles" / cluster).exists() for folder in (home, home / ".minikube"))


NOWHERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": ""}}],
}


def honest(manager: type[Any]) -> type[Any]:
    """The manager's class, made to delete only what a command of its object made (it starts from the opposite: P1, P2, P4).

    The first command that succeeds is the one that makes the cluster: k3d's second, for the kubeconfig, may still fail.
    """

    class Honest(manager):  # type: ignore[misc]
        _created = False

        def _exec(self, *arguments: Any, **options: Any) -> Any:
            done = super()._exec(*arguments, **options)
            self._created = True
            return done

    return Honest


def _tried(what: str, call: Any) -> None:
    try:
        call()
    except subprocess.CalledProcessError as error:
        said = " ".join(bytes(error.stderr or error.stdout or b"").decode(errors="replace").split())[-300:]
        raise HarnessError(f"{what}: {said or f'exit code {error.returncode}'}") from None
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{what}: not within {error.timeout:g} s") from None
    except RuntimeError as error:
        raise HarnessError(f"{what}: {error}") from None

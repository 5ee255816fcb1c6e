"""The user's own cluster: which context, which namespace, and a private copy where a tool may damage the file."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from hotfire.errors import BadInput
from hotfire.kube.client import Cluster, Forbidden, NotFound, Object, Ref, current_kubeconfig

FIRST_S = 3.0  # for the first word of an API server: nothing is at stake yet, and a wrong address should be said soon


@dataclass(frozen=True)
class UserStand:
    """A cluster and the namespace to run in. found: the Namespace object; None if absent or not readable."""

    cluster: Cluster
    namespace: str
    found: Object | None


def resolve(
    kubeconfig: str | None, context: str | None, namespace: str, *, create: bool = False, timeout: float = 10
) -> UserStand:
    """Reach the cluster and find the namespace; create: the run will make it, so it must not be there yet.

    Raises BadInput with one line: no kubeconfig, unknown context, unreachable API server, refused credentials, a
    namespace that is missing, foreign (to be created, yet there) or on its way out.
    """
    cluster = Cluster.connect(kubeconfig, context, timeout, first=FIRST_S)
    where = f"namespace {namespace} (context {cluster.context})"
    try:
        found = cluster.get(Ref("v1", "Namespace", "", namespace))
    except NotFound:
        if create:
            return UserStand(cluster, namespace, None)
        raise BadInput(f"{where}: not there: create it, or say `namespace: {{create: true}}` in the scenario") from None
    except Forbidden as error:
        # a Role cannot hold the right to read its own Namespace, but it exists nowhere but in a namespace that is there
        if not create and cluster.can("list", "pods", namespace=namespace):
            return UserStand(cluster, namespace, None)
        raise BadInput(f"{where}: {error.message}") from None
    if found["metadata"].get("deletionTimestamp"):
        raise BadInput(f"{where}: terminating since {found['metadata']['deletionTimestamp']}: wait, or name another")
    if create:
        made = found["metadata"]["creationTimestamp"]
        raise BadInput(f"{where}: there since {made}, made by somebody else: a run never takes over a namespace it must delete")
    return UserStand(cluster, namespace, found)


@contextmanager
def private_copy(kubeconfig: str | None, context: str | None = None) -> Iterator[Path]:
    """A 0600 copy in a folder of its own, for tools that may delete or rewrite what they are given (facts: P1 to P3).

    All files of $KUBECONFIG in one, relative paths made absolute, so that the copy works from anywhere.
    """
    files = current_kubeconfig(kubeconfig)
    merged: dict[str, object] = {"apiVersion": "v1", "kind": "Config"}
    lists: dict[str, dict[str, object]] = {"clusters": {}, "users": {}, "contexts": {}}
    for file in files:
        document = yaml.safe_load(file.read_text()) or {}
        merged.setdefault("current-context", document.get("current-context", ""))
        for key, found in lists.items():
            for entry in document.get(key) or ():
                found.setdefault(entry["name"], _absolute(entry, file.resolve().parent))
    merged.update({key: list(found.values()) for key, found in lists.items()})
    if context is not None:
        if context not in lists["contexts"]:
            raise BadInput(f"{', '.join(map(str, files))}: no context {context!r}: {', '.join(lists['contexts'])}")
        merged["current-context"] = context
    with tempfile.TemporaryDirectory(prefix="hotfire-kubeconfig-") as folder:
        path = Path(folder) / "config"
        path.touch(mode=0o600)
        path.write_text(json.dumps(merged))
        yield path


FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _absolute(entry: Object, folder: Path) -> Object:
    """The entry with the files it names found from anywhere."""
    copied = dict(entry)
    for part in ("cluster", "user"):
        if isinstance(inner := entry.get(part), dict):
            copied[part] = {
                key: os.path.join(folder, value) if key in FILES and isinstance(value, str) else value
                for key, value in inner.items()
            }
    return copied

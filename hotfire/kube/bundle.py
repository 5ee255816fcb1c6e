"""What is kept before anything is torn down: bounded in time and size, redacted, never in the way of the way back."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotfire.kube.client import ApiError, Cluster, Object
from hotfire.kube.events import line
from hotfire.kube.fit import allocatable, requests
from hotfire.kube.logs import read_log
from hotfire.kube.pods import containers, grade
from hotfire.kube.wait import check_interrupt
from hotfire.words import Grade

REQUEST_S, WHOLE_S = 3.0, 15.0  # unbounded collection has hidden the original error before (facts: harnesses 4)
TAIL, BIGGEST = 2000, 1 << 20  # lines, bytes of one log
ABOUT = (
    ("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "ResourceQuota"),
)  # fmt: skip


@dataclass
class Bundle:
    """Where it lies and what is in it. left_out: what could not be had, and why."""

    folder: Path
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        missing = f", left out: {'; '.join(self.left_out)}" if self.left_out else ""
        return f"{self.folder.name}: {len(self.files)} files ({self.seconds:.1f} s){missing}"


def collect(cluster: Cluster, namespace: str, folder: Path, redact: Callable[[str], str], *, within: float = WHOLE_S) -> Bundle:
    """Write events, objects, logs (current and previous, the worst pods first) and node allocation to the folder.

    Secrets and ConfigMaps are not read. An API server that refuses or is slow costs lines in `left_out`, never the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _Collector(cluster, namespace, Bundle(folder), redact, time.monotonic(), within).run()


@dataclass
class _Collector:
    cluster: Cluster
    namespace: str
    bundle: Bundle
    redact: Callable[[str], str]
    began: float
    within: float

    def run(self) -> Bundle:
        pods = self._list("v1", "Pod", self.namespace)
        self._write("pods.txt", _lines(f"{p['metadata']['name']}  {grade(p).line}" for p in pods))
        self._write("pods.json", _json(pods))
        events = sorted(self._list("v1", "Event", self.namespace), key=lambda e: e["metadata"]["creationTimestamp"])
        self._write("events.txt", _lines(map(line, events)))
        for pod in sorted(pods, key=_worst_first):
            self._logs(pod)
        nodes = self._list("v1", "Node")
        everywhere = self._list("v1", "Pod") or pods
        self._write("nodes.txt", _lines(_allocation(nodes, everywhere)))
        for api_version, kind in ABOUT:
            self._write(f"{kind.lower()}s.json", _json(self._list(api_version, kind, self.namespace)))
        self.bundle.seconds = time.monotonic() - self.began
        return self.bundle

    def _try(self, what: str, call: Callable[[float], Any]) -> Any:
        """What the call gives within its share of the time; None, and a line, when it gives nothing."""
        check_interrupt()
        left = self.within - (time.monotonic() - self.began)
        if left <= 0.1:
            self.bundle.left_out.append(f"{what}: no time left")
            return None
        try:
            return call(min(REQUEST_S, left))
        except ApiError as error:
            self.bundle.left_out.append(f"{what}: {error.message}")
            return None

    def _list(self, api_version: str, kind: str, namespace: str = "") -> Sequence[Object]:
        where = f" of {namespace}" if namespace else ""

        def call(seconds: float) -> Sequence[Object]:
            path = self.cluster.collection(api_version, kind, namespace)
            page = self.cluster.raw("GET", path, query={"limit": "500"}, timeout=seconds, what=f"list {kind.lower()}s")
            return [{"apiVersion": api_version, "kind": kind, **item} for item in page.get("items") or ()]

        return self._try(f"{kind.lower()}s{where}", call) or ()

    def _logs(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        for one in containers(pod):
            for previous in (True, False) if one.restarts else (False,):
                what = f"{name}.{one.name}{'.previous' if previous else ''}.log"

                def call(seconds: float, one: str = one.name, previous: bool = previous) -> str | None:
                    return read_log(self.cluster, pod, one, previous=previous, tail=TAIL, limit=BIGGEST, timeout=seconds)

                if (text := self._try(what, call)) is not None:
                    self._write(what, text)

    def _write(self, name: str, text: str) -> None:
        (self.bundle.folder / name).write_text(self.redact(text))
        self.bundle.files.append(name)


def _worst_first(pod: Object) -> int:
    return (Grade.TERMINAL, Grade.DEGRADED, Grade.STARTING, Grade.HEALTHY).index(grade(pod).grade)


def _json(objects: Sequence[Object]) -> str:
    bare = [
        {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}} for obj in objects
    ]
    return json.dumps(bare, indent=1) + "\n"


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{text}\n" for text in lines)


def _allocation(nodes: Sequence[Object], pods: Sequence[Object]) -> Iterator[str]:
    """Per node and resource: asked of allocatable, and who holds the devices."""
    for node in nodes:
        name = node["metadata"]["name"]
        held = [p for p in pods if p["spec"].get("nodeName") == name and p["status"].get("phase") in ("Pending", "Running")]
        taints = ", ".join(f"{t['key']}={t.get('value', '')}:{t['effect']}" for t in node["spec"].get("taints") or ())
        yield f"{name}  taints: {taints or 'none'}"
        for resource, offered in sorted(allocatable(node).items()):
            asked = {p["metadata"]["name"]: requests(p).get(resource, 0) for p in held}
            holders = ", ".join(pod for pod, amount in asked.items() if amount) if "/" in resource else ""
            yield f"  {resource}: {sum(asked.values())} of {offered}" + (f"  {holders}" if holders else "")

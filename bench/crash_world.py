"""What the crash matrix breaks: a namespace with a baseline, runs of the tiny candidate into it, and eyes that are kubectl's.

Nothing of hotfire is told that it is being watched: a run is killed when its journal, read from outside, shows the point.
"""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comparer
import httpx
import yaml

from hotfire.kube.client import Cluster
from hotfire.kube.wait import Watch
from hotfire.rollout.job import ACCOUNT
from hotfire.rollout.rbac import rbac
from hotfire.scenario.loader import load
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.images import pull_secret

Object = dict[str, Any]
MARK, PLACE = "HOTFIRE_CRASH_CELL", "CRASH_PLACE"  # environment of a run and its children / of what runs in the pods
WORKLOAD, JOURNAL = "tiny", "hotfire-deployment-tiny"
KINDS = (
    "deployments,statefulsets,daemonsets,replicasets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,"
    "poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,ingresses,jobs,cronjobs,persistentvolumeclaims,"
    "roles,rolebindings,leases"
)
SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: tiny
about: one cell of the crash matrix
mode: promote
users: none
candidate: {manifests: manifests/, serves: [{workload: deployment/tiny, service: tiny, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: none}
startup: {ready_within: 40s}
load: {arrivals: spaced 100ms, warm_up: 1, max_tokens: 2, timeout: 8s}
slos: [{metric: e2e, p50: "< 1s"}]
rollback: {within: 60s, soak: 1s}
lock: {lease: 3s}
"""


def manifest(api: str, kind: str, name: str, **body: Any) -> Object:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **body}


def deployment(image: str, place: str, *flags: str) -> Object:
    """The workload; it reads the ConfigMap and the Secret that a candidate edits."""
    container = {
        "name": "server", "image": image, "args": ["--model", "m", "--port", "8080", *flags],
        "env": [{"name": PLACE, "value": place}],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "api"}}],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "96Mi"}},
    }  # fmt: skip
    spec = {
        "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 1,
        "imagePullSecrets": [{"name": "registry"}], "containers": [container],
    }  # fmt: skip
    template = {"metadata": {"labels": {"app": WORKLOAD}}, "spec": spec}
    body = {"replicas": 1, "selector": {"matchLabels": {"app": WORKLOAD}}, "template": template}
    return manifest("apps/v1", "Deployment", WORKLOAD, spec=body)


def objects(image: str, place: str, which: str, *flags: str) -> list[Object]:
    """Everything of one version: old or new."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    service = manifest("v1", "Service", WORKLOAD, spec={"selector": {"app": WORKLOAD}, "ports": ports})
    service["metadata"]["annotations"] = {"version": which}
    return [
        manifest("v1", "ConfigMap", "settings", data={"BATCH": which}),
        manifest("v1", "Secret", "api", type="Opaque", stringData={"LEVEL": f"level-{which}"}),
        service,
        deployment(image, place, "--answer", " ".join([which] * 4), *flags),
    ]


def baseline(image: str, place: str) -> list[Object]:
    return objects(image, place, "old")


def candidate(image: str, place: str, *flags: str) -> list[Object]:
    """It edits all four objects and adds one."""
    return [manifest("v1", "ConfigMap", "added", data={"NEW": "1"}), *objects(image, place, "new", *flags)]


FAULT = {"serving_again_within": "40s", "errors": "< 50%"}
VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # flags of the candidate, changes of the scenario
    "sound": ((), {}),
    "late": (("--start-after", "300s"), {"startup": {"ready_within": "3s"}}),
    "kill": ((), {"faults": [{"name": "gone", "kill": "one pod", **FAULT}]}),
    "oom": ((), {"faults": [{"name": "full", "oom": "one container", **FAULT}]}),
    "rehearse": ((), {"rollback": {"within": "60s", "soak": "1s", "rehearse": True}}),
}


# -- processes --------------------------------------------------------------------------------------------------------


def environments() -> Iterator[tuple[int, bytes]]:
    """Of every process on the machine; the stand's containers are among them."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "environ").read_bytes()
            except OSError:
                continue


def survivors(cell: str, place: str) -> list[str]:
    """What a dead run left running: its children by the environment they got from it, and what was started inside the pods
    beside their PID 1. Names decide nothing."""
    ours, theirs = f"{MARK}={cell}".encode(), f"{PLACE}={place}".encode()
    found = []
    for pid, text in environments():
        lines = text.split(b"\0")
        if ours in lines or (theirs in lines and not _first(pid)):
            found.append(f"{pid} {_command(pid)}")
    return found


def _first(pid: int) -> bool:
    """Whether it is PID 1 of its namespace; true also for one that has gone meanwhile."""
    try:
        return re.search(r"^NSpid:.*\t1$", Path(f"/proc/{pid}/status").read_text(), re.M) is not None
    except OSError:
        return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "gone"


# -- a place ----------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """The stand and its tools."""

    running: Running
    image: str
    cluster: Cluster
    folder: Path
    own: str  # hotfire's own image, for the watchdog

    def kubectl(self, *words: str, given: str | None = None, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command = [str(self.running.kubectl), "--kubeconfig", str(self.running.kubeconfig), *words]
        ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=150, check=False)
        if check and ended.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {ended.stderr.strip()}")
        return ended


@dataclass
class Place:
    """A namespace of the matrix's own."""

    world: World
    name: str
    fresh: bool = True
    before: list[Object] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.world.folder / self.name

    def kubectl(
        self, *words: str, given: Sequence[Object] | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        text = yaml.safe_dump_all(given) if given else None
        return self.world.kubectl("-n", self.name, *words, given=text, check=check)

    def prepare(self) -> None:
        """The baseline serves, applied by its owner with kubectl; how it is then is what every end is compared with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.fresh:
            self.remove()
            self.world.kubectl("create", "namespace", self.name)
            self.kubectl("apply", "-f", "-", given=[pull_secret(self.world.running.registry, "registry"), *self.rights()])
            self.fresh = False
        self.kubectl("delete", "configmap", "added", "--ignore-not-found")
        self.kubectl("apply", "-f", "-", given=baseline(self.world.image, self.name))
        self.kubectl("rollout", "status", f"deployment/{WORKLOAD}", "--timeout=90s")
        deadline = time.monotonic() + 30
        while comparer.population(objects := self.look()) and time.monotonic() < deadline:
            time.sleep(0.3)
        self.before = objects

    def rights(self) -> list[Object]:
        """What the owner gives the watchdog, as `hotfire rbac` prints it, and the secret its image is pulled with."""
        home = self.folder / "rights"
        (home / "manifests").mkdir(parents=True, exist_ok=True)
        (home / "manifests" / "all.yaml").write_text(yaml.safe_dump_all(candidate(self.world.image, self.name)))
        (home / "scenario.yaml").write_text(SCENARIO.replace("NAMESPACE", self.name))
        given = [dict(one) for one in rbac(load(home / "scenario.yaml"), self.name, ACCOUNT)]
        pull = {"imagePullSecrets": [{"name": "registry"}]}
        return [one | pull if one["kind"] == "ServiceAccount" else one for one in given]

    def remove(self) -> None:
        self.world.kubectl("delete", "namespace", self.name, "--ignore-not-found", "--timeout=120s")

    def look(self) -> list[Object]:
        """Everything in the namespace, raw."""
        return list(json.loads(self.kubectl("get", KINDS, "-o", "json", "--show-managed-fields").stdout)["items"])

    def asked(self, *flags: str) -> list[Object]:
        """The candidate as the API server itself would make it, by a dry run in another namespace."""
        given = yaml.safe_dump_all(candidate(self.world.image, self.name, *flags))
        said = self.world.kubectl("-n", "default", "create", "--dry-run=server", "-o", "json", "-f", "-", given=given).stdout
        made, decoder = list[Object](), json.JSONDecoder()
        while said := said.lstrip():  # one document after the other
            obj, end = decoder.raw_decode(said)
            made, said = [*made, obj], said[end:]
        return made

    def answer(self) -> str:
        """Of whoever serves: its first word."""
        spec = json.loads(self.kubectl("get", "service", WORKLOAD, "-o", "json").stdout)["spec"]
        asked = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/chat/completions"
        said = httpx.post(url, json=asked, timeout=20, trust_env=False).raise_for_status().json()
        return str(said["choices"][0]["message"]["content"]).split()[0]

    def tombstone(self) -> Object:
        """What the journal says now; empty when there is none."""
        found = self.kubectl("get", "configmap", JOURNAL, "-o", "json", "--ignore-not-found").stdout
        return dict(json.loads(json.loads(found)["data"]["journal"])) if found.strip() else {}


# -- a run ------------------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """`hotfire run` as a pipeline starts it, and what became of it."""

    place: Place
    cell: str
    variant: str
    popen: "subprocess.Popen[bytes]"
    began: float
    reports: Path
    log: Path

    @classmethod
    def start(
        cls, place: Place, cell: str, variant: str, *, kubeconfig: Path | None = None, more: Sequence[str] = (),
        folder: str = "run", given: Sequence[Object] | None = None, scenario: dict[str, Any] | None = None, armed: bool = False,
    ) -> "Process":  # fmt: skip
        flags, changes = VARIANTS[variant]
        home = place.folder / cell.replace("/", "_") / folder
        shutil.rmtree(home, ignore_errors=True)
        (home / "manifests").mkdir(parents=True)
        manifests = given or candidate(place.world.image, place.name, *flags)
        (home / "manifests" / "all.yaml").write_text(yaml.safe_dump_all(manifests))
        asked = yaml.safe_load(SCENARIO.replace("NAMESPACE", place.name)) | changes | (scenario or {})
        (home / "scenario.yaml").write_text(yaml.safe_dump(asked))
        command = [sys.executable, "-m", "hotfire.cli", "run", str(home / "scenario.yaml"), "--reports", str(home / "reports")]
        command += ["--kubeconfig", str(kubeconfig or place.world.running.kubeconfig), *more]
        command += ["--watchdog-image", place.world.own] if armed else []
        began = time.monotonic()
        with (home / "output.txt").open("wb") as out:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, MARK: cell},
            )
        return cls(place, cell, variant, popen, began, home / "reports", home / "output.txt")

    def kill(self) -> None:
        """This process and none of its children: those must notice by themselves."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def wait(self, within: float) -> int | None:
        """Its exit code; None, and dead, when it took longer."""
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def run_folder(self) -> Path | None:
        return next(iter(self.reports.glob("tiny-*")), None)

    @property
    def verdict(self) -> Object:
        """verdict.json, empty while there is none."""
        file = self.run_folder / "verdict.json" if self.run_folder else None
        try:
            return dict(json.loads(file.read_text())) if file else {}
        except (OSError, ValueError):
            return {}

    def events(self) -> list[Object]:
        """The lines of its record; a last half line is none."""
        file = self.run_folder / "record.jsonl" if self.run_folder else None
        lines = file.read_text().splitlines() if file and file.exists() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found


def abort(place: Place, log: Path) -> "subprocess.CompletedProcess[str]":
    """`hotfire abort`, as the step of a pipeline that always runs."""
    command = [sys.executable, "-m", "hotfire.cli", "abort", "--namespace", place.name]
    command += ["--kubeconfig", str(place.world.running.kubeconfig)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    log.write_text(ended.stdout + ended.stderr)
    return ended


# -- eyes -------------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the watches hold at one moment. before: the run id that the journal had when the run began."""

    before: str
    maps: dict[str, Object] = field(default_factory=dict)
    leases: dict[str, Object] = field(default_factory=dict)

    @property
    def journal(self) -> Object:
        """Of the run under watch; empty before it has one."""
        text = (self.maps.get(JOURNAL, {}).get("data") or {}).get("journal")
        body: Object = json.loads(text) if text else {}
        return body if body.get("run") not in (None, self.before) else {}

    @property
    def state(self) -> str:
        return str(self.journal.get("state", ""))

    def entries(self, *ops: str) -> list[Object]:
        return [one for one in self.journal.get("entries", ()) if one["op"] in ops]

    def batch(self) -> str:
        return str((self.maps.get("settings", {}).get("data") or {}).get("BATCH"))

    def held(self) -> bool:
        return any(one["spec"].get("holderIdentity") for one in self.leases.values())


Predicate = Callable[[Seen], bool]


@contextmanager
def watching(place: Place) -> Iterator[Callable[[Predicate, Callable[[], bool], float], bool]]:
    """Gives `until(predicate, go_on, within)`: True at the very change that makes the predicate true."""
    seen = Seen(str(place.tombstone().get("run", "")))
    news: queue.SimpleQueue[tuple[dict[str, Object], str, Any]] = queue.SimpleQueue()
    cluster, name = place.world.cluster, place.name
    with Watch(cluster, "v1", "ConfigMap", name) as maps, Watch(cluster, "coordination.k8s.io/v1", "Lease", name) as leases:
        for watch, into in ((maps, seen.maps), (leases, seen.leases)):
            threading.Thread(target=_pump, args=(watch, into, news), daemon=True).start()

        def until(predicate: Predicate, go_on: Callable[[], bool], within: float) -> bool:
            deadline = time.monotonic() + within
            while go_on() and time.monotonic() < deadline:
                try:
                    into, kind, what = news.get(timeout=0.1)
                except queue.Empty:
                    continue
                if kind == "LIST":
                    into.clear()
                    into.update(what)
                elif kind == "DELETED":
                    into.pop(what["metadata"]["name"], None)
                elif kind in ("ADDED", "MODIFIED"):
                    into[what["metadata"]["name"]] = what
                if predicate(seen):
                    return True
            return False

        yield until
        news.put(({}, "END", None))


def _pump(watch: Watch, into: dict[str, Object], news: "queue.SimpleQueue[tuple[dict[str, Object], str, Any]]") -> None:
    while not watch._closed:
        try:
            kind, what = watch.events.get(timeout=0.5)
        except queue.Empty:
            continue
        news.put((into, kind, what))

"""Up, down and status of the embedded stand, and the handle on a running one."""

import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict

from hotfire.errors import HarnessError
from hotfire.stand.embedded import build, cgroups, control, machine, network, node, pause, plan, processes
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.pki import Authority
from hotfire.stand.embedded.plan import Node, Stand

Say = Callable[[str], None]


class Registry(BaseModel):
    """A registry: `host:port`, and an account. The stand's speaks plain HTTP and knows only this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    user: str
    password: str
    scheme: Literal["http", "https"] = "http"


class Status(BaseModel):
    """What is there now. processes: name -> MB resident for each living process of the control plane and node inits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    phase: str
    since: str
    processes: Mapping[str, float]
    nodes: Mapping[str, bool]
    resident_mb: float


class Api:
    """The few calls `up` makes of its own, as the admin."""

    def __init__(self, stand: Stand) -> None:
        context = ssl.create_default_context(cafile=str(stand.state / "pki" / "ca.crt"))
        context.load_cert_chain(stand.state / "pki" / "admin.crt", stand.state / "pki" / "admin.key")
        self._http = httpx.Client(
            base_url=f"https://{plan.CONTROL}:{plan.API_PORT}", verify=context, timeout=5, trust_env=False
        )

    def get(self, path: str) -> httpx.Response | None:
        """The answer when it is 200, None otherwise or when nothing answers."""
        try:
            answer = self._http.get(path)
        except httpx.TransportError:
            return None
        return answer if answer.status_code == 200 else None

    def create(self, path: str, body: Mapping[str, object]) -> None:
        """POST; an object that is there already is left alone."""
        answer = self._http.post(path, json=body)
        if answer.status_code not in (201, 409):
            raise HarnessError(f"POST {path}: {answer.status_code} {answer.text[:300]}")

    def nodes(self) -> Mapping[str, bool]:
        """Node -> Ready, with all of its devices advertised."""
        answer = self.get("/api/v1/nodes")
        return {item["metadata"]["name"]: _ready(item) for item in answer.json()["items"]} if answer else {}

    def devices(self) -> Mapping[str, int]:
        """Node -> allocatable simulated GPUs."""
        answer = self.get("/api/v1/nodes")
        items = answer.json()["items"] if answer else []
        return {i["metadata"]["name"]: int(i["status"].get("allocatable", {}).get(plan.GPU, 0)) for i in items}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _ready(item: Mapping[str, Any]) -> bool:
    """Ready, and the scheduler may use it: the taint of a node not ready outlives the condition for a moment."""
    taints = (taint["key"] for taint in item["spec"].get("taints", []))
    conditions = item["status"].get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not any(key.startswith("node.kubernetes.io/") for key in taints)


@dataclass(frozen=True)
class Running:
    """A stand that runs."""

    stand: Stand

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.stand.kubeconfig

    @cached_property
    def registry(self) -> Registry:
        """Address and account of the registry."""
        return Registry.model_validate_json(self.stand.registry_file.read_text())

    @property
    def kubectl(self) -> Path:
        """The kubectl of this Kubernetes."""
        return self.stand.state / "bin" / "kubectl"

    def init(self, name: str) -> int:
        """Host pid of the node's PID 1; HarnessError when the node is off."""
        outer = self._outer(name)
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        found = children.read_text().split() if outer.alive and children.exists() else []
        if not found:
            raise HarnessError(f"node {name} is off")
        return int(found[0])

    def _outer(self, name: str) -> processes.Process:
        there = processes.recorded(self.stand.state / "pids")
        return there.get(f"node-{self.stand.node(name).name}") or processes.Process(0, "")

    def power_off(self, name: str) -> None:
        """SIGKILL the node's init: every process of it and of its pods is gone at once."""
        outer = self._outer(name)
        os.kill(self.init(name), signal.SIGKILL)
        until(f"node {name} is off", lambda: not outer.alive, 5.0)

    def power_on(self, name: str) -> None:
        """Start a node that is off, as after a power cut: its disk is as it was, its memory and network are new."""
        _start_node(self.stand, self.stand.node(name))

    def cut(self, name: str) -> None:
        """Partition the node: it and its pods run on, and nobody reaches them nor they anybody."""
        processes.command("ip", "link", "set", self.stand.node(name).link, "down")

    def join(self, name: str) -> None:
        """End the partition."""
        processes.command("ip", "link", "set", self.stand.node(name).link, "up")

    def devices_unhealthy(self, name: str, *devices: str) -> None:
        """Make exactly these devices of the node unhealthy; none heals all."""
        folder = self.stand.unhealthy_dir(self.stand.node(name))
        for file in folder.iterdir():
            if file.name not in devices:
                file.unlink()
        for device in devices:
            (folder / device).touch()

    def load(self, archive: Path) -> None:
        """Import an OCI or docker archive into every node, as `kind load` does."""
        for each in self.stand.nodes:
            address = self.stand.node_dir(each) / "run" / "containerd" / "containerd.sock"
            processes.command(
                str(self.stand.state / "bin" / "ctr"), "--address", str(address), "--namespace", "k8s.io",
                "images", "import", str(archive), within=600,
            )  # fmt: skip

    @contextmanager
    def api(self) -> Iterator[Api]:
        """The admin's connection."""
        connection = Api(self.stand)
        try:
            yield connection
        finally:
            connection.close()


def up(stand: Stand, wait_s: float = 0, say: Say = lambda _: None) -> Running:
    """Start the stand, or whatever of it is not running; returns when its nodes are Ready.

    BadInput: the machine cannot; Refused: another stand holds it (after waiting `wait_s`); HarnessError: it did not
    come up, with the log folder to look into.
    """
    machine.check()
    files = build.binaries(stand.binaries, say)
    with machine.held(stand, wait_s, say) as alive:
        began = time.monotonic()
        fresh = alive is None or alive.phase != "up" or not _serves(stand)
        if fresh:
            if machine.remains():
                say("clearing what an earlier stand left")
                _clear()
            machine.declare(stand, "starting")
            _start(stand, files, say)
        running = _complete(stand, say)
        if fresh:
            machine.declare(stand, "up")
        say(f"stand {stand.name} is up in {time.monotonic() - began:.1f} s")
    return running


def _shape(stand: Stand) -> Mapping[str, int | str]:
    nodes = {"gpus": stand.gpus_per_node, "nodes": len(stand.nodes), "grace": stand.node_grace_s, "eviction": stand.eviction_s}
    return {**nodes, "binaries": str(stand.binaries.resolve()) if stand.binaries else ""}


def _serves(stand: Stand) -> bool:
    """True when the stand of this name that runs is what is asked for; who wants no nodes is served by any of its binaries."""
    try:
        found = json.loads((stand.state / "stand.json").read_text())
    except (OSError, ValueError):
        return False
    wanted = _shape(stand)
    return bool(found == wanted or (stand.control_plane_only and found.get("binaries") == wanted["binaries"]))


def _start(stand: Stand, files: Mapping[str, Path], say: Say) -> None:
    for folder in (stand.state, stand.bulk):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (stand.state, stand.logs, stand.state / "pids", stand.state / "bin", stand.bulk / "etcd"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stand.registry_store.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (stand.state / "bin" / name).symlink_to(file)
    (stand.state / "stand.json").write_text(json.dumps(_shape(stand)))
    cgroups.prepare([n.name for n in stand.nodes])
    network.create(stand.nodes)
    authority = Authority(stand.state / "pki")
    commands = control.write(stand, authority)
    (stand.state / "control.json").write_text(json.dumps(commands))
    for each in stand.nodes:
        node.write(stand, each, authority)
    pause.write(stand.state / "pause.tar")
    for name in ("etcd", "apiserver"):
        processes.launch(name, commands[name], stand.state / "pids", stand.logs)
    for each in stand.nodes:
        _start_node(stand, each)


def _start_node(stand: Stand, each: Node) -> None:
    name = f"node-{each.name}"
    there = processes.recorded(stand.state / "pids").get(name)
    if there is None or not there.alive:
        if there is not None:
            cgroups.reset(each.name)
            network.attach(each, stand.nodes)
            home = stand.node_dir(each)
            shutil.rmtree(home / "run")
            (home / "run").mkdir()
        processes.launch(name, node.command(stand, each), stand.state / "pids", stand.logs)


def _complete(stand: Stand, say: Say) -> Running:
    """From an API server that was started to Ready nodes; also revives what has died since."""
    running, pids = Running(stand), stand.state / "pids"
    with running.api() as api:
        until(f"API server (logs: {stand.logs})", lambda: _intact(stand) and api.get("/readyz"), 60)
        commands: Mapping[str, Sequence[str]] = json.loads((stand.state / "control.json").read_text())
        there = processes.recorded(pids)
        for name, argv in commands.items():
            if name not in there or not there[name].alive:
                environment = {"OTEL_TRACES_EXPORTER": "none"} if name == "registry" else {}
                processes.launch(name, argv, pids, stand.logs, environment)
        (stand.state / "go").touch()
        if "coredns" in commands:
            for path, body in control.COREDNS_RIGHTS.items():
                api.create(path, body)
        for each in stand.nodes:
            _start_node(stand, each)
        say("control plane answers")
        _await_nodes(stand, api)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        until(f"default ServiceAccount (logs: {stand.logs})", lambda: api.get(account), 60)
    cgroups.confine()
    return running


def _await_nodes(stand: Stand, api: Api) -> None:
    """Return when every node was Ready, untainted and complete for more than one round of the node lifecycle controller.

    Its round that saw a node NotReady can taint it after it became Ready; the next round takes the taint away.
    """
    wanted = {n.name: n.gpus for n in stand.nodes}
    since: float | None = None

    def held() -> bool:
        nonlocal since
        _intact(stand)
        nodes, devices = api.nodes(), api.devices()
        complete = all(nodes.get(name) and devices.get(name, 0) >= gpus for name, gpus in wanted.items())
        since = (since or time.monotonic()) if complete else None
        return since is not None and time.monotonic() - since > 1.5 * plan.NODE_MONITOR_S

    if wanted:
        until(f"nodes Ready with their devices (logs: {stand.logs})", held, 90)


def _intact(stand: Stand) -> bool:
    """True; HarnessError with the last line of its log when a process we started has ended."""
    for name, process in processes.recorded(stand.state / "pids").items():
        if not process.alive:
            log = stand.logs / f"{name}.log"
            raise HarnessError(f"{name} ended: {(log.read_text().strip().splitlines() or ['(no output)'])[-1]} ({log})")
    return True


def down(stand: Stand, wait_s: float = 0, say: Say = lambda _: None) -> bool:
    """Take the stand away without a trace but logs asked for and caches; False when there was nothing of it."""
    with machine.held(stand, wait_s, say):
        if not machine.remains() and not stand.state.exists():
            return False
        machine.declare(stand, "stopping")
        began = time.monotonic()
        _clear()
        say(f"stand {stand.name} is down in {time.monotonic() - began:.1f} s")
    return True


def _clear() -> None:
    """Remove every process, namespace, interface, route, cgroup and folder of any stand on this machine."""
    cgroups.kill_all()
    network.remove()
    cgroups.remove()
    for folder in (plan.cache() / "stands").glob("*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in plan.RUN.glob("*/"):
        shutil.rmtree(folder, ignore_errors=True)
    machine.OWNER.unlink(missing_ok=True)


def status(stand: Stand) -> Status | None:
    """What runs under this name; None for nothing."""
    holder = machine.owner()
    if holder is None or holder.name != stand.name:
        return None
    there = {name: p for name, p in processes.recorded(stand.state / "pids").items() if p.alive}
    ready: Mapping[str, bool] = {}
    if "apiserver" in there:
        with Running(stand).api() as api:
            ready = api.nodes()
    return Status(
        name=stand.name,
        phase=holder.phase if holder.alive else "dead",
        since=holder.since,
        processes={name: round(processes.resident_mb(p.pid), 1) for name, p in there.items()},
        nodes=ready,
        resident_mb=round(sum(processes.resident_mb(pid) for pid in cgroups.members()), 1),
    )

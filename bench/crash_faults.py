"""What else may happen to a run: its API server goes, its transport lies, its journal or its namespace is deleted, it sleeps
past its Lease. Each cell says what was wrong in `bad`; nothing of it is arranged by a hook in the product."""

import http.client
import http.server
import json
import os
import signal
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import comparer
from crash_judge import await_end, judge
from crash_world import JOURNAL, WORKLOAD, Place, Predicate, Process, Seen, abort, watching

from hotfire.errors import HarnessError
from hotfire.rollout.job import WATCHES
from hotfire.stand.embedded import machine, plan, processes
from hotfire.stand.embedded.patience import until as patiently

Cell = dict[str, Any]
RUN_S = 180.0
HELD_S = 3.0 * 4 / 3 + 3.0  # a Lease of 3 s that nobody renews is free after this long


def starting(seen: Seen) -> bool:
    return True


def armed(seen: Seen) -> bool:
    return seen.state == "ARMED"


def testing(seen: Seen) -> bool:
    return seen.state == "TESTING"


def deploying(seen: Seen) -> bool:
    return seen.state == "APPLYING" and bool(seen.entries("put-back"))


def restoring(seen: Seen) -> bool:
    return seen.state == "RESTORING"


@contextmanager
def started(place: Place, cell: str, variant: str, at: Predicate, **more: Any) -> Iterator[Process]:
    """A run that is at the point when the block begins; dead when it ends."""
    with watching(place) as until:
        run = Process.start(place, cell, variant, **more)
        try:
            if not until(at, lambda: run.alive, RUN_S):
                raise RuntimeError(f"the run never came there: {run.log.read_text()[-2000:]}")
            yield run
        finally:
            if run.alive:
                with suppress(ProcessLookupError):
                    run.popen.send_signal(signal.SIGCONT)
                run.kill()


def believed(place: Place, run: Process, before: str, *legal: int) -> list[str]:
    """An end that is exactly old or new, an exit code that says so, and nothing left; what is wrong with it."""
    found = judge(place, run, before, True, None)
    code = run.popen.returncode
    bad = [*found["mixed"], *found["wrong"], *found["orphans"]]
    bad += [] if code in legal else [f"exit {code}, {' or '.join(map(str, legal))} is right"]
    return bad + ([f"exit {code}, it ends {found['end']}"] if (code == 0) != (found["end"] == "new") else [])


def past(place: Place) -> str:
    return str(place.tombstone().get("run", ""))


# -- the cluster meanwhile --------------------------------------------------------------------------------------------


def second_run(place: Place, cell: str) -> Cell:
    """While one run is at it another is refused, with the holder's name; the first does not notice."""
    before = past(place)
    with started(place, cell, "sound", testing) as first:
        second = Process.start(place, cell, "sound", folder="second")
        code, said = second.wait(60), second.log.read_text()
        first.wait(RUN_S)
        bad = believed(place, first, before, 0)
    if code != 4 or "held by run tiny-" not in said or "Traceback" in said:
        bad.append(f"the second run: exit {code}: {said[-300:]}")
    return {"said": f"second {code}, first {first.popen.returncode}", "bad": bad}


def namespace_deleted(place: Place, cell: str) -> Cell:
    """The namespace goes under the run: never GO, and never made again."""
    with started(place, cell, "sound", testing) as run:
        place.world.kubectl("delete", "namespace", place.name, "--wait=false")
        code = run.wait(RUN_S)
    patiently("the namespace is gone", lambda: not _there(place), 60)
    time.sleep(3)
    bad = [] if code in (21, 22) else [f"exit {code}, 21 or 22 is right: {run.log.read_text()[-500:]}"]
    bad += ["the namespace is there again"] if _there(place) else []
    bad += ["verdict.json says GO"] if run.verdict.get("verdict") == "GO" else []
    return {"said": f"exit {code}", "bad": bad, "spoilt": True}


def _there(place: Place) -> bool:
    return bool(place.world.kubectl("get", "namespace", place.name, "-o", "name", "--ignore-not-found").stdout.strip())


def journal_deleted(place: Place, cell: str) -> Cell:
    """Without its journal nobody knows the way back: UNSAFE, said so, and never GO."""
    with started(place, cell, "sound", testing) as run:
        place.kubectl("delete", "configmap", JOURNAL)
        code = run.wait(RUN_S)
    bad = [] if code == 22 else [f"exit {code}, 22 is right"]
    bad += [] if run.verdict.get("verdict") == "UNSAFE" else [f"verdict.json says {run.verdict.get('verdict')}"]
    return {"said": f"exit {code}", "bad": bad, "spoilt": True}


def operator_undo(place: Place, cell: str) -> Cell:
    """Somebody types `kubectl rollout undo` while the candidate is tested."""
    before = past(place)
    with started(place, cell, "sound", testing) as run:
        place.kubectl("rollout", "undo", f"deployment/{WORKLOAD}")
        run.wait(RUN_S)
    return {"said": f"exit {run.popen.returncode}", "bad": believed(place, run, before, 20, 21)}


def woken(at: Predicate, variant: str = "sound") -> Callable[[Place, str], Cell]:
    def cell_of(place: Place, cell: str) -> Cell:
        """Stopped beyond its Lease, an abort takes over and ends; woken, the run must not write another byte."""
        before = past(place)
        with started(place, cell, variant, at) as run:
            run.popen.send_signal(signal.SIGSTOP)
            time.sleep(HELD_S)
            ended = abort(place, run.log.with_name("abort.txt"))
            first, stone = place.look(), place.tombstone()
            run.popen.send_signal(signal.SIGCONT)
            code = run.wait(RUN_S)
        time.sleep(1)
        second = place.look()
        stale = written_between(first, second)
        stale += ["the tombstone was written"] if place.tombstone() != stone else []
        bad = [*stale, *comparer.not_old(place.before, second), *comparer.orphans(place.before, second)]
        bad += [] if ended.returncode == 21 else [f"abort: exit {ended.returncode}: {ended.stdout[-500:]}"]
        bad += [] if code in (21, 22) else [f"exit {code} of the woken run, 21 or 22 is right"]
        bad += ["verdict.json says GO"] if run.verdict.get("verdict") == "GO" else []
        bad += ["the journal is still the one before"] if stone.get("run") == before else []
        return {"said": f"abort {ended.returncode}, woken {code}", "stale_writes": len(stale), "bad": bad}

    return cell_of


def written_between(first: list[comparer.Object], second: list[comparer.Object]) -> list[str]:
    """Objects that somebody wrote, made or removed between two looks; reports of controllers count as nothing."""
    was, now = comparer.intended(first), comparer.intended(second)
    wrong = [f"{'/'.join(one)} was removed" for one in was.keys() - now.keys()]
    wrong += [f"{'/'.join(one)} was made" for one in now.keys() - was.keys()]
    for one in was.keys() & now.keys():
        same = comparer.differences(was[one], now[one]) == [] and comparer.ownership(was[one]) == comparer.ownership(now[one])
        alive = was[one]["metadata"].get("generation") == now[one]["metadata"].get("generation")
        wrong += [] if same and alive else [f"{'/'.join(one)} was written"]
    return wrong


# -- the watchdog -----------------------------------------------------------------------------------------------------


def watchdog_evicted(place: Place, cell: str) -> Cell:
    """The run has died, and so has the pod that would restore: evicted by the API that a drain uses."""
    before = past(place)
    with started(place, cell, "sound", testing, armed=True) as run:
        name = _watchdog(place)["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": place.name}}
        run.kill()
        path = f"/api/v1/namespaces/{place.name}/pods/{name}/eviction"
        place.world.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
    return _restored(place, run, before, await_end(place, before))


def watchdog_node_lost(place: Place, cell: str) -> Cell:
    """The run has died, and the watchdog's node has lost its power; another takes over elsewhere. The node comes back later, so
    that what was on it can be seen to be gone. A node of the GPUs is opened, for there is one plain node alone."""
    before, stand = past(place), place.world.running
    place.world.kubectl("taint", "node", "gpu-1", "ai.workload-")
    try:
        with started(place, cell, "sound", testing, armed=True) as run:
            node = _watchdog(place)["spec"]["nodeName"]
            run.kill()
            stand.power_off(node)
            try:
                with suppress(HarnessError):
                    patiently("the run is settled without its node", lambda: bool(place.tombstone().get("settled")), 60)
                alone = bool(place.tombstone().get("settled"))
            finally:
                stand.power_on(node)
        found = _restored(place, run, before, await_end(place, before, 90))
    finally:
        place.world.kubectl("taint", "node", "gpu-1", "ai.workload=inference:NoSchedule")
    return found | {"said": f"{node} lost, settled {'before' if alone else 'after'} it came back; {found['said']}"}


def _watchdog(place: Place) -> comparer.Object:
    (pod,) = json.loads(place.kubectl("get", "pods", "-l", WATCHES, "-o", "json").stdout)["items"]
    return dict(pod)


def _restored(place: Place, run: Process, before: str, waited: Cell) -> Cell:
    bad = believed(place, run, before, -signal.SIGKILL) + ([] if waited["watched"] else ["nobody watched"])
    return {"said": f"without a command in {waited['watchdog_s']} s", "bad": bad}


# -- the API server ---------------------------------------------------------------------------------------------------


FORGOTTEN_S = 125.0  # after an outage: client-go backs off from its first step again after two minutes without one
_last_down = [-FORGOTTEN_S]  # when the API server was last killed here, CLOCK_MONOTONIC


def api_down(at: Predicate, variant: str, seconds: float, *legal: int) -> Callable[[Place, str], Cell]:
    def cell_of(place: Place, cell: str) -> Cell:
        """SIGKILL of the API server, and the same one started again; one outage, not the next of several."""
        before, stand = past(place), place.world.running.stand
        time.sleep(max(0.0, _last_down[0] + FORGOTTEN_S - time.monotonic()))
        with started(place, cell, variant, at) as run:
            old = processes.recorded(stand.state / "pids")["apiserver"]
            commands = json.loads((stand.state / "control.json").read_text())
            with machine.held(stand, 60, print):  # a stand without its API server counts as dead: nobody may clear it now
                os.kill(old.pid, signal.SIGKILL)
                try:
                    patiently("the API server is gone", lambda: not old.alive, 10)
                    _last_down[0] = time.monotonic()
                    time.sleep(seconds)
                finally:
                    processes.launch("apiserver", commands["apiserver"], stand.state / "pids", stand.logs)
            run.wait(RUN_S)
        return {"said": f"exit {run.popen.returncode}", "bad": believed(place, run, before, *legal)}

    return cell_of


def api_frozen(at: Predicate, variant: str, seconds: float, *legal: int) -> Callable[[Place, str], Cell]:
    def cell_of(place: Place, cell: str) -> Cell:
        """SIGSTOP of the API server: connections stay open and nobody answers."""
        before, stand = past(place), place.world.running.stand
        with started(place, cell, variant, at) as run:
            server = processes.recorded(stand.state / "pids")["apiserver"]
            os.kill(server.pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            run.wait(RUN_S)
        return {"said": f"exit {run.popen.returncode}", "bad": believed(place, run, before, *legal)}

    return cell_of


# -- the transport ----------------------------------------------------------------------------------------------------


class Liar(http.server.BaseHTTPRequestHandler):
    """Between hotfire and the API server: it carries every request over, but for what `lie` makes of the nth."""

    protocol_version = "HTTP/1.1"
    place: Place
    lie: Callable[[int, str], str]
    count = 0
    lying = False
    told: dict[str, int]
    lock = threading.Lock()
    context: ssl.SSLContext

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            type(self).count += self.lying
            lie = type(self).lie(self.count, self.command) if self.lying else ""
            self.told[lie] = self.told.get(lie, 0) + bool(lie)
        if lie == "429":
            return self._send(429, [("Retry-After", "1"), ("Content-Type", "text/plain")], b"too many requests")
        if lie == "silence":
            time.sleep(11)
            self.close_connection = True
            return None
        upstream = http.client.HTTPSConnection(plan.CONTROL, plan.API_PORT, context=self.context, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            if lie == "lost":
                answer.read()
                self.close_connection = True
                return None
            if "watch=true" in urllib.parse.urlsplit(self.path).query:
                return self._stream(answer)
            kept = [(name, value) for name, value in answer.getheaders()
                    if name.lower() not in ("transfer-encoding", "content-length", "connection")]  # fmt: skip
            return self._send(answer.status, kept, answer.read())
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()
        return None

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while chunk := answer.read1(1 << 16):
            self.wfile.write(chunk)
            self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


def transport(lie: Callable[[int, str], str], variant: str, at: Predicate, *legal: int) -> Callable[[Place, str], Cell]:
    def cell_of(place: Place, cell: str) -> Cell:
        """A run whose transport lies from a point on; kubectl, the judge, is connected directly."""
        before, pki = past(place), place.world.running.stand.state / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        told: dict[str, int] = {}
        handler = type(
            "Handler", (Liar,), {"lie": staticmethod(lie), "context": context, "told": told, "count": 0, "lying": False}
        )
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            kubeconfig = _kubeconfig(place.folder, server.server_port)
            with started(place, cell, variant, at, kubeconfig=kubeconfig) as run:
                handler.lying = True  # type: ignore[attr-defined]
                code = run.wait(RUN_S)
        finally:
            server.shutdown()
            server.server_close()
        told.pop("", None)
        bad = believed(place, run, before, *legal)
        bad += [] if told else ["the transport never lied"]
        return {"said": f"exit {code}, {told} of {handler.count}", "bad": bad}  # type: ignore[attr-defined]

    return cell_of


def _kubeconfig(folder: Path, port: int) -> Path:
    file = folder / "liar.kubeconfig"
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "liar",
        "clusters": [{"name": "liar", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "liar", "user": {}}],
        "contexts": [{"name": "liar", "context": {"cluster": "liar", "user": "liar"}}],
    }  # fmt: skip
    file.write_text(json.dumps(document))
    return file


def busy(n: int, verb: str) -> str:
    return "429" if n % 5 == 0 else ""


def forgetful(n: int, verb: str) -> str:
    return "lost" if verb != "GET" and n % 4 == 0 else ""


def silent(n: int, verb: str) -> str:
    return "silence" if n in (20, 60, 100) else ""


FAULTS: dict[str, tuple[Callable[[Place, str], Cell], bool]] = {  # name -> cell, whether it disturbs the whole stand
    "second-run": (second_run, False),
    "operator-undo": (operator_undo, False),
    "woken-testing": (woken(testing), False),
    "woken-applying": (woken(deploying), False),
    "woken-restoring": (woken(restoring, "late"), False),
    "busy-from-the-start": (transport(busy, "sound", starting, 0, 4, 20, 21), False),
    "busy-applying": (transport(busy, "sound", deploying, 0, 20, 21), False),
    "busy-restoring": (transport(busy, "late", restoring, 20, 21), False),
    "lost-acknowledgements": (transport(forgetful, "sound", armed, 0, 20, 21), False),
    "lost-acknowledgements-way-back": (transport(forgetful, "late", restoring, 20, 21), False),
    "timeouts-applying": (transport(silent, "sound", deploying, 0, 20, 21), False),
    "timeouts-restoring": (transport(silent, "late", restoring, 20, 21), False),
    "watchdog-evicted": (watchdog_evicted, False),
    "watchdog-node-lost": (watchdog_node_lost, True),
    "journal-deleted": (journal_deleted, False),
    "namespace-deleted": (namespace_deleted, False),
    "api-restarted-applying": (api_down(deploying, "sound", 1.0, 0, 20, 21), True),
    "api-restarted-testing": (api_down(testing, "sound", 3.0, 0, 20, 21), True),
    "api-restarted-restoring": (api_down(restoring, "late", 3.0, 20, 21), True),
    "api-frozen-testing": (api_frozen(testing, "sound", 4.0, 0, 20, 21), True),
    "api-frozen-restoring": (api_frozen(restoring, "late", 4.0, 20, 21), True),
}

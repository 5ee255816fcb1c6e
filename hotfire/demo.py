"""`make demo`: the main job three times on the embedded stand, each end observed by kubectl and a request, not by hotfire.

A sound candidate that survives a pod kill and a container OOM (GO), one far slower than its objective (NO_GO), and one that
is OOM-killed at start (NO_GO). After each NO_GO what served before must serve again.
"""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from hotfire.errors import BadInput, HarnessError
from hotfire.rollout.job import ACCOUNT
from hotfire.rollout.rbac import rbac
from hotfire.scenario.loader import load
from hotfire.stand.embedded.lifecycle import Running, down, up
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.images import pull_secret, push_all

NAME, NAMESPACE, WORKLOAD = "demo", "llm-serving", "smollm"
SCENARIOS = Path(__file__).parent.parent / "scenarios"
ACTS = {"smollm-sound": 0, "smollm-slow": 20, "smollm-oom": 20}  # scenario -> exit code
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Observed:
    """What serves, seen without hotfire: template, image digests of the running pods, an answer from the Service."""

    template: str
    digests: tuple[str, ...]
    pods: tuple[str, ...]
    answer: str


class Observer:
    """kubectl and a plain request."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Its standard output. Raises HarnessError with its standard error."""
        command = [str(self.running.kubectl), "--kubeconfig", str(self.running.kubeconfig), "-n", NAMESPACE, *words]
        ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode:
            raise HarnessError(f"kubectl {' '.join(words)}: {ended.stderr.strip()}")
        return ended.stdout

    def look(self) -> Observed:
        """One look at what serves now."""
        deployment = json.loads(self.kubectl("get", "deployment", WORKLOAD, "-o", "json"))
        pods = json.loads(self.kubectl("get", "pods", "-l", f"app={WORKLOAD}", "-o", "json"))["items"]
        service = json.loads(self.kubectl("get", "service", WORKLOAD, "-o", "json"))["spec"]
        asked = {"model": WORKLOAD, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1/chat/completions"
        said = httpx.post(url, json=asked, timeout=60, trust_env=False).raise_for_status().json()
        digests = {
            str(status["imageID"]).rpartition("@")[2][:19] for pod in pods for status in pod["status"]["containerStatuses"]
        }
        return Observed(
            json.dumps(deployment["spec"]["template"], sort_keys=True),
            tuple(sorted(digests)),
            tuple(sorted(pod["metadata"]["name"] for pod in pods)),
            str(said["choices"][0]["message"]["content"]).strip(),
        )


@dataclass(frozen=True)
class Played:
    """An act's end. right: it ended as it must; folder: of its run, None when that left no certificate."""

    right: bool
    folder: Path | None


def demo(*, keep: bool, reports: Path, echo: Echo, only: str | None = None) -> int:
    """Play the acts, or `only` the one of that name; 0 when every one ended as it must. The stand goes unless `keep`."""
    if only not in (None, *ACTS):
        raise BadInput(f"--only {only}: one of {', '.join(ACTS)} is expected")
    began = time.monotonic()
    running = up(Stand(name=NAME, gpus_per_node=2), wait_s=600, say=echo)
    try:
        played = play(running, [only] if only else list(ACTS), reports, echo)
    finally:
        if keep:
            echo(f"the stand stays: export KUBECONFIG={running.kubeconfig}; `hotfire stand down --name {NAME}` takes it away")
        else:
            down(Stand(name=NAME), say=echo)
    right = [one.right for one in played]
    echo(f"{sum(right)} of {len(right)} acts ended as they must, in {time.monotonic() - began:.0f} s")
    for folder in filter(None, (one.folder for one in played)):
        echo(f"certificate: {folder / 'certificate.html'}\nAllure results: {folder / 'allure-results'}")
    return 0 if all(right) else 1


def play(running: Running, names: Sequence[str], reports: Path, echo: Echo) -> list[Played]:
    """A baseline, and the acts of these names, on a stand that runs."""
    images = push_all(running.registry, say=echo)
    prepare(Observer(running), images, running, echo)
    return [act(running, images, name, ACTS[name], reports, echo) for name in names]


def prepare(observer: Observer, images: Mapping[str, str], running: Running, echo: Echo) -> None:
    """A namespace with Secrets and a baseline, made by its owner's hands: kubectl apply."""
    existing = observer.kubectl("get", "namespaces", "-o", "name").split()
    if f"namespace/{NAMESPACE}" not in existing:
        observer.kubectl("create", "namespace", NAMESPACE)
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hf-token"},
        "stringData": {"token": secrets.token_hex(16)},
    }
    rights = rbac(load(SCENARIOS / "smollm-sound" / "scenario.yaml"), NAMESPACE, ACCOUNT)  # as `hotfire rbac` prints them
    secret = pull_secret(running.registry, "registry")
    observer.kubectl("apply", "-f", "-", given=yaml.safe_dump_all([token, secret, *rights]))
    manifests = (SCENARIOS / "smollm-sound" / "manifests" / "smollm.yaml").read_text()
    objects = list(yaml.safe_load_all(manifests))
    container = objects[1]["spec"]["template"]["spec"]["containers"][0]
    container["image"] = images["llamacpp"]
    container["env"].append({"name": "BUILD", "value": "0407"})
    observer.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))
    observer.kubectl("rollout", "status", f"deployment/{WORKLOAD}", "--timeout=120s")
    echo(f"baseline serves: {observer.look().answer!r}")


def act(running: Running, images: Mapping[str, str], name: str, wanted: int, reports: Path, echo: Echo) -> Played:
    """One run, and what the observer says of its end."""
    observer = Observer(running)
    before, earlier = observer.look(), set(reports.glob(f"{name}-*"))
    echo(f"--- {name} (exit {wanted} is expected)")
    began = time.monotonic()
    code = hotfire_run(running, SCENARIOS / name / "scenario.yaml", images, reports)
    after = observer.look()
    restored = (after.template, after.digests) == (before.template, before.digests)
    end = "serves what served before" if restored else "serves the candidate"
    right = code == wanted and restored == (wanted != 0)
    echo(f"--- {name}: exit {code}, {'as expected' if right else 'NOT as expected'}, in {time.monotonic() - began:.0f} s")
    seen = f"{WORKLOAD} {end}; digests {', '.join(after.digests)}; it says {after.answer!r}"
    echo(f"    kubectl and one request, not hotfire: {seen}")
    folder = next((one for one in set(reports.glob(f"{name}-*")) - earlier if (one / "certificate.html").exists()), None)
    for point in proof(folder) if folder else ():
        echo(f"    {point}")
    return Played(right, folder)


def hotfire_run(running: Running, scenario: Path, images: Mapping[str, str], reports: Path) -> int:
    """`hotfire run` as a process of its own, as a pipeline starts it."""
    command = [sys.executable, "-m", "hotfire.cli", "run", str(scenario), "--kubeconfig", str(running.kubeconfig)]
    command += ["--image", f"llamacpp={images['llamacpp']}", "--reports", str(reports)]
    command += ["--watchdog-image", images["hotfire"]]
    return subprocess.run(command, check=False, timeout=900).returncode


def proof(folder: Path) -> list[str]:
    """The points of the restoration proof, one line each."""
    verdict: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    return [f"{point['result']:14} {point['point']}: {point['evidence']}" for point in verdict["proof"]]

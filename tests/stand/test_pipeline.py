"""Pipeline mode on real kubelets: `arm`, a plain `kubectl apply` as the pipeline, `verify`, `settle`; seen by kubectl."""

import html
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from tests.component.test_rollout_watchdog import until
from tests.helm import binary
from tests.neighbour import neighbour

dogs = neighbour("tests/stand/test_watchdog")
guard = neighbour("tests/stand/test_load_guard")
runs = dogs.runs
ends, journal, old = dogs.ends, dogs.journal, dogs.old


@dataclass
class Run:
    """One run, command by command."""

    place: Any
    armed: Callable[..., list[str]]
    folder: Path = Path()

    def arm(self, *objects: Any, **scenario: Any) -> None:
        """Of a candidate that only its manifests hold yet."""
        command = self.armed(*objects, scenario={"rollout": {"by": "pipeline", **scenario.pop("rollout", {})}, **scenario})
        command[command.index("run")] = "arm"
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (self.folder,) = (self.place.folder / "reports").glob("tiny-*")
        assert f"`hotfire verify reports/{self.folder.name}`" in ended.stdout, ended.stdout

    def command(self, word: str) -> list[str]:
        return [sys.executable, "-m", "hotfire.cli", word, str(self.folder), "--kubeconfig", self.place.kubeconfig]

    def does(self, word: str) -> tuple[int, str]:
        ended = subprocess.run(self.command(word), capture_output=True, text=True, timeout=240, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    @property
    def ended(self) -> Any:
        return self.place.ended(0, "")


@pytest.fixture
def run(place: Any, armed: Callable[..., list[str]]) -> Iterator[Run]:
    yield Run(place, armed)


def test_a_sound_candidate_that_kubectl_applied_is_confirmed(place, run: Run, new, cluster: Cluster) -> None:
    run.arm(runs.service(), new())
    assert place.lease().startswith("watchdog/") and place.ask().startswith("old")
    place.apply(runs.service(), new())
    code, said = run.does("verify")
    assert code == 0 and "PASS deploy.exact" in said and place.lease().startswith("watchdog/"), said
    code, said = run.does("settle")
    assert code == 0 and run.ended.verdict["verdict"] == "GO", said
    assert place.ask().startswith("new") and place.lease() == "" and journal(cluster, place).ended
    states = [event["state"] for event in run.ended.events if event["type"] == "changed"]
    assert states == ["ARMED", "WAITING", "TESTING", "WAITING", "TESTING", "CONFIRMED"]
    judged = runs.judged(run.folder, "--anchors", "--kubeconfig", place.kubeconfig)
    assert judged.returncode == 0 and "are in the record" in judged.stdout, judged.stdout
    assert cluster.list("batch/v1", "Job", place.name) == [] and "unchanged" in place.kubectl(
        "apply", "-f", str(place.folder / "manifests" / "all.yaml")
    )
    assert run.does("settle")[0] == 0


def test_users_are_counted_from_a_pipelines_deploy_until_it_is_settled(place, run: Run, new) -> None:
    """They are served well while it is verified, and fail while somebody thinks it over."""
    before, candidate = place.serving(), new("--fail-on", guard.ONLY_USERS)
    run.arm(runs.service(), candidate, **guard.CAPPED)
    place.apply(runs.service(), candidate)
    with guard.users(place, workers=8, text="Say hello."):
        code, said = run.does("verify")
    assert code == 0 and "PASS rollout.users[tiny]" in said, said
    with guard.users(place, workers=8, every=0.02):
        pause(6)
    code, said = run.does("settle")
    found = run.ended.check("rollout.users[tiny]")
    assert (code, found["outcome"], found["blame"]) == (20, "FAIL", "candidate"), said
    old(place, before)
    assert runs.judged(run.folder).returncode == 20


def test_a_slow_one_is_restored_and_its_pipelines_next_apply_changes_nothing(place, run: Run, new, cluster: Cluster) -> None:
    before, baseline = place.serving(), place.kubectl("get", "deployment", "tiny", "-o", "yaml")
    run.arm(runs.service(), new("--ttft", "1200ms"))
    place.apply(runs.service(), new("--ttft", "1200ms"))
    assert run.does("verify")[0] == 1
    code, said = run.does("settle")
    assert (code, run.ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), said
    old(place, before)
    assert "last-applied" in baseline and journal(cluster, place).body.state == "RESTORED"
    place.apply(runs.service(), runs.deployment(place.image, "--answer", "old old old old"))
    assert place.serving() == before


def test_nobody_deploys_and_the_watchdog_closes_the_run_with_nothing_changed(place, run: Run, new, cluster: Cluster) -> None:
    def written() -> Any:
        found = json.loads(place.kubectl("get", "deployment,service", "-o", "json"))["items"]
        pods = json.loads(place.kubectl("get", "pods", "-l", "app=tiny", "-o", "json"))["items"]
        return [one["metadata"]["resourceVersion"] for one in found], [one["metadata"]["uid"] for one in pods]

    before = written()
    run.arm(runs.service(), new(), rollout={"deploy_by": "5s"})
    ended = ends(cluster, place)
    assert (ended.body.state, ended.body.last_verdict, written()) == ("RESTORED", "INCONCLUSIVE", before)
    assert run.does("verify")[0] == 4 and run.does("settle")[0] == 21


def test_a_verify_that_was_killed_is_restored_like_a_killed_run(place, run: Run, new, cluster: Cluster) -> None:
    before = place.serving()
    run.arm(runs.service(), new(), **runs.LONG)
    place.apply(runs.service(), new())
    process = runs.started(place, run.command("verify"), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    code, said = run.does("settle")
    assert code == 21 and ends(cluster, place).body.state == "RESTORED", said
    old(place, before)


@dataclass
class Helm:
    """The real one, and a chart of Service and Deployment; the server's arguments are values."""

    place: Any
    file: Path
    chart: Path

    def __post_init__(self) -> None:
        (self.chart / "templates").mkdir(parents=True)
        (self.chart / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 0.1.0\n")
        workload = runs.deployment(self.place.image)
        workload["spec"]["template"]["spec"]["containers"][0]["args"] = "ARGS"
        template = yaml.safe_dump_all([runs.service(), workload]).replace("ARGS", "{{ toJson .Values.args }}")
        (self.chart / "templates" / "all.yaml").write_text(template)

    def __call__(self, word: str, *words: str) -> str:
        command = [str(self.file), word, "tiny", *words, "-n", self.place.name, "--kubeconfig", self.place.kubeconfig]
        env = {"HOME": str(self.chart), "PATH": os.environ["PATH"]}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def deploy(self, word: str, *flags: str) -> str:
        args = ["--model", "m", "--port", "8080", *flags]
        return self(word, str(self.chart), "--set-json", f"args={json.dumps(args)}")

    def rendered(self, *flags: str) -> Iterator[Any]:
        """The manifests of a scenario."""
        return filter(None, yaml.safe_load_all(self.deploy("template", *flags)))

    @property
    def history(self) -> list[tuple[int, str]]:
        return [(one["revision"], one["status"]) for one in json.loads(self("history", "-o", "json"))]


@pytest.fixture(scope="session")
def helm_file() -> Path:
    return binary()


@pytest.fixture
def helm(place: Any, helm_file: Path, tmp_path: Path) -> Helm:
    """In the place of what was there."""
    place.kubectl("delete", "service,deployment", "tiny", "--cascade=foreground", "--timeout=60s")
    return Helm(place, helm_file, tmp_path / "chart")


OLD, NEW = ("--answer", "old old old old"), ("--answer", "new new new new")
SLOW = (*NEW, "--ttft", "1200ms")


def test_what_helm_upgraded_and_failed_is_restored_with_its_release(place, run: Run, helm: Helm) -> None:
    helm.deploy("install", *OLD)
    place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    before = place.serving()
    run.arm(*helm.rendered(*SLOW))
    helm.deploy("upgrade", *SLOW)
    assert helm.history == [(1, "superseded"), (2, "deployed")]
    assert run.does("verify")[0] == 1
    code, said = run.does("settle")
    assert (code, run.ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), said
    old(place, before)
    assert helm.history == [(1, "deployed")] and "STATUS: deployed" in helm("status")
    helm.deploy("upgrade", *NEW)
    place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    assert helm.history == [(1, "superseded"), (2, "deployed")] and place.ask().startswith("new")


def test_what_helm_upgraded_and_is_sound_is_confirmed(place, run: Run, helm: Helm, cluster: Cluster) -> None:
    helm.deploy("install", *OLD)
    place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    run.arm(*helm.rendered(*NEW))
    helm.deploy("upgrade", *NEW)
    code, said = run.does("verify")
    assert code == 0 and "PASS deploy.exact" in said, said
    code, said = run.does("settle")
    assert (code, run.ended.verdict["verdict"]) == (0, "GO"), said
    assert helm.history == [(1, "superseded"), (2, "deployed")] and journal(cluster, place).ended
    helm.deploy("upgrade", *OLD)
    assert helm.history[-1] == (3, "deployed")


@dataclass
class Flux:
    """A Kustomization, and a thread that applies its source every second unless it is suspended, as its controller does."""

    place: Any
    cluster: Cluster
    source: tuple[Any, ...] = ()
    applied: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def ref(self) -> Ref:
        return Ref("kustomize.toolkit.fluxcd.io/v1", "Kustomization", self.place.name, "tiny")

    def reconcile(self) -> None:
        while not self.over.wait(1):
            if not self.cluster.get(self.ref)["spec"].get("suspend"):
                self.place.apply(*self.source)
                self.applied += 1

    def commits(self, *objects: Any) -> None:
        """Returns once it was applied."""
        marks = {"kustomize.toolkit.fluxcd.io/name": "tiny", "kustomize.toolkit.fluxcd.io/namespace": self.place.name}
        metas = [{**one["metadata"], "labels": {**one["metadata"].get("labels", {}), **marks}} for one in objects]
        self.source = tuple({**one, "metadata": meta} for one, meta in zip(objects, metas, strict=True))
        before = self.applied
        until(lambda: self.applied > before + 1, within=30)
        self.place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")


@pytest.fixture
def flux(place: Any, cluster: Cluster) -> Iterator[Flux]:
    """It has deployed the baseline."""
    made = Flux(place, cluster)
    names = {"kind": "Kustomization", "plural": "kustomizations", "singular": "kustomization", "listKind": "KustomizationList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    spec = {"group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced", "names": names, "versions": versions}
    meta = {"name": "kustomizations.kustomize.toolkit.fluxcd.io"}
    of = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta}
    crd = cluster.create({**of, "spec": spec})
    place.kubectl("wait", "--for=condition=Established", f"crd/{meta['name']}", "--timeout=20s")
    meta = {"name": "tiny", "namespace": place.name}
    cluster.create({"apiVersion": made.ref.api_version, "kind": made.ref.kind, "metadata": meta, "spec": {"interval": "1m"}})
    thread = threading.Thread(target=made.reconcile, daemon=True)
    thread.start()
    made.commits(runs.service(), runs.deployment(place.image, "--answer", "old old old old"))
    yield made
    made.over.set()
    thread.join()
    cluster.delete(Ref.of(crd), uid=crd["metadata"]["uid"])
    place.kubectl("wait", "--for=delete", f"crd/{crd['metadata']['name']}", "--timeout=60s")  # the next test makes its own


def test_with_consent_flux_is_suspended_and_the_baseline_stays(place, run: Run, new, flux: Flux, cluster: Cluster) -> None:
    before = place.serving()
    run.arm(runs.service(), new("--ttft", "1200ms"), rollout={"owner_in": place.name}, consent=["suspend-sync"])
    flux.commits(runs.service(), new("--ttft", "1200ms"))
    assert run.does("verify")[0] == 1
    code, said = run.does("settle")
    resume = f"kubectl -n {place.name} patch kustomizations.kustomize.toolkit.fluxcd.io tiny --type merge"
    assert code == 20 and f"Kustomization {place.name}/tiny stays suspended" in said and resume in said, said
    assert any(resume in line for line in run.ended.verdict["because"])
    pause(3)
    old(place, before)
    assert cluster.get(flux.ref)["spec"]["suspend"] is True


def test_without_consent_the_way_back_is_the_owners(place, run: Run, new, flux: Flux, cluster: Cluster) -> None:
    run.arm(runs.service(), new("--ttft", "1200ms"))
    flux.commits(runs.service(), new("--ttft", "1200ms"))
    assert run.does("verify")[0] == 1
    code, said = run.does("settle")
    must = f"the way back is the owner's, Kustomization {place.name}/tiny must roll back"
    assert code == 21 and f"hotfire restored nothing: {must}" in said, said
    assert place.ask().startswith("new") and "suspend" not in cluster.get(flux.ref)["spec"]
    page = html.unescape((run.folder / "certificate.html").read_text())
    assert must in page and f"the owner's (Kustomization {place.name}/tiny)</dd>" in page
    judged = runs.judged(run.folder)
    assert judged.returncode == 21, judged.stdout


def test_what_the_manifests_do_not_say_is_not_verified(place, run: Run, new, cluster: Cluster) -> None:
    """Another build than the one that was armed for: nobody's GO, and not the candidate's NO_GO."""
    before = place.serving()
    run.arm(runs.service(), new())
    place.apply(runs.service(), new("--ttft", "1ms"))
    code, said = run.does("verify")
    assert code == 1 and "FAIL deploy.exact" in said and "blame: platform" in said, said
    assert run.does("settle")[0] == 21
    old(place, before)

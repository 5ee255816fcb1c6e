"""Owners that apply by themselves, on a real API server, played by a thread as their documentation says: suspended with
consent, left alone without. The watchdog is a process."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.journal.entries import OnObject, SuspendSync
from hotfire.kube.client import ApiError, Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.plugin.close import settle
from hotfire.plugin.nouns.preflight import Preflight
from hotfire.record.events import Event, Suspended
from hotfire.rollout.armed import ByWatchdog
from hotfire.rollout.fence import LABEL
from hotfire.rollout.rbac import RUNNER, rbac
from hotfire.rollout.settle import Settling
from hotfire.rollout.status import describe
from hotfire.rollout.waiting import take_back
from hotfire.scenario.loader import load
from hotfire.words import Decision, State, Verdict
from tests.component.test_rollout_waiting import hands_over, waiting
from tests.component.test_rollout_watchdog import until
from tests.control_plane import let
from tests.dead_run import Scene
from tests.planted_run import Ground, planted_suite

__all__ = ("waiting",)
KINDS = {
    "Application": ("argoproj.io", "v1alpha1", "applications"),
    "Kustomization": ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    "HelmRelease": ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
}
PERSON = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """As much of them as an API server needs."""
    for kind, (group, version, plural) in KINDS.items():
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        one = {"name": version, "served": True, "storage": True, "schema": schema}
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [one]}
        of = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        cluster.create({**of, "metadata": {"name": f"{plural}.{group}"}, "spec": spec})
        until(lambda group=group, version=version, kind=kind: known(cluster, f"{group}/{version}", kind))


def known(cluster: Cluster, api_version: str, kind: str) -> bool:
    try:
        return cluster.list(api_version, kind) == []
    except ApiError:
        return False


@dataclass
class Owner:
    """Applies what its source says to `settings`, whenever its object says that it does so by itself."""

    cluster: Cluster
    ref: Ref
    target: Ref
    source: str = "8"
    kept: bool = False  # by somebody who writes its spec again
    before: Object = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def spec(self) -> Object:
        return dict(self.cluster.get(self.ref)["spec"])

    def syncs(self, live: Object) -> bool:
        if self.ref.kind != "Application":
            return live["spec"].get("suspend") is not True
        automated = live["spec"].get("syncPolicy", {}).get("automated")
        return automated is not None and automated.get("enabled", True)

    def begin(self) -> None:
        spec: Object = {"syncPolicy": {"automated": {"selfHeal": True, "prune": False}}, "project": "default"}
        spec = spec if self.ref.kind == "Application" else {"interval": "1m", "path": "./deploy"}
        meta = {"name": self.ref.name, "namespace": self.ref.namespace}
        self.cluster.create({"apiVersion": self.ref.api_version, "kind": self.ref.kind, "metadata": meta, "spec": spec})
        self.before = self.spec
        threading.Thread(target=self.reconcile, daemon=True).start()

    def reconcile(self) -> None:
        while not self.over.wait(0.1):
            live = self.cluster.get(self.ref)
            if self.kept and not self.syncs(live):
                live = self.cluster.patch(self.ref, {"spec": self.before})
            if self.syncs(live) or self.busy(live):
                self.cluster.patch(self.target, {"data": {"BATCH": self.source}})

    def busy(self, live: Object) -> bool:
        return bool(live.get("status", {}).get("operationState", {}).get("phase") == "Running")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def owner(waiting: Scene, crds, kind: str) -> Iterator[Owner]:
    """Of the run that waits, found when it was armed."""
    group, version, _ = KINDS[kind]
    ref = Ref(f"{group}/{version}", kind, waiting.namespace, "llama")
    made = Owner(waiting.cluster, ref, Ref("v1", "ConfigMap", waiting.namespace, "settings"))
    made.begin()
    waiting.journal.write(syncs=(OnObject.of(ref),), suspend=True)
    yield made
    made.over.set()


argo_cd = pytest.mark.parametrize("kind", ["Application"], indirect=True)
flux = pytest.mark.parametrize("kind", ["Kustomization"], indirect=True)


def deploys(scene: Scene, owner: Owner) -> None:
    """The run leaves; a commit changes what the owner's source says."""
    hands_over(scene)
    owner.source = "16"
    until(lambda: scene.batch == "16")


def dies(scene: Scene) -> None:
    take_back(scene.read(), "verify", deploy_by="").leave()


def settled(scene: Scene) -> str:
    """What the step that always runs says of it then."""
    lines: list[str] = []
    assert settle(lambda: scene.cluster, Path("run-a"), scene.namespace, gone=True, tell=lines.append) is Verdict.INCONCLUSIVE
    return "\n".join(lines)


def status(scene: Scene) -> str:
    return "\n".join(describe(scene.cluster, scene.namespace))


def test_with_consent_the_owner_is_suspended_and_the_baseline_stays(waiting: Scene, owner: Owner) -> None:
    process = waiting.watchdog()
    deploys(waiting, owner)
    assert owner.spec == owner.before
    dies(waiting)
    said = waiting.ended(process)
    pause(1)
    assert waiting.batch == "8" and waiting.read().state is State.RESTORED and waiting.read().ended, said
    told = f"{owner.ref.kind} {waiting.namespace}/llama stays suspended"
    assert told in said and told in settled(waiting) and told in status(waiting)
    (entry,) = waiting.read().of_type(SuspendSync)
    waiting.cluster.patch(owner.ref, entry.resume)
    assert owner.spec == owner.before and told not in status(waiting)
    until(lambda: waiting.batch == "16")


@flux
def test_the_run_that_asked_for_the_way_back_says_who_is_suspended(waiting: Scene, owner: Owner) -> None:
    waiting.watchdog()
    deploys(waiting, owner)
    journal, events = waiting.read(), list[Event]()
    with take_back(journal, "settle", deploy_by="") as lease:
        settling = Settling(journal, lease.guard, events.append, "run-a", ByWatchdog("run-a"))
        ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert ending.safe and waiting.batch == "8", ending.unproven
    (one,) = [event for event in events if isinstance(event, Suspended)]
    resource = f"{KINDS[owner.ref.kind][2]}.{KINDS[owner.ref.kind][0]}"
    assert one.resume.startswith(f"kubectl -n {waiting.namespace} patch {resource} llama --type merge -p '{{")


@argo_cd
def test_after_a_go_the_sync_is_as_it_was(waiting: Scene, owner: Owner) -> None:
    waiting.watchdog()
    deploys(waiting, owner)
    journal = waiting.read()
    with take_back(journal, "settle", deploy_by="") as lease:
        settling = Settling(journal, lease.guard, lambda event: None, "run-a", new_probe=lambda: "ok", asked=lambda: [])
        assert settling.settle(Decision.CONFIRM, "").state is State.CONFIRMED
    assert owner.spec == owner.before and waiting.batch == "16" and not journal.of_type(SuspendSync)


def test_without_consent_nothing_is_restored_and_nothing_is_unsafe(waiting: Scene, owner: Owner) -> None:
    waiting.journal.write(suspend=False)
    process = waiting.watchdog()
    deploys(waiting, owner)
    before = waiting.settings()
    dies(waiting)
    said = waiting.ended(process)
    journal = waiting.read()
    assert (journal.ended, journal.state, journal.body.last_verdict) == (True, State.RESTORED, "INCONCLUSIVE"), said
    assert waiting.settings() == before and LABEL not in before["metadata"].get("labels", {}) and owner.spec == owner.before
    assert f"closure: the way back is the owner's: {owner.ref.kind} {waiting.namespace}/llama" in said
    assert journal.body.proofs["residue"].startswith("PROVEN")
    assert f"hotfire restored nothing: {owner.ref.kind} {waiting.namespace}/llama must roll back" in settled(waiting)


@flux
def test_nobody_deployed_and_nobody_is_suspended(waiting: Scene, owner: Owner) -> None:
    process = waiting.watchdog()
    hands_over(waiting, within_s=2)
    assert "nobody had deployed by" in waiting.ended(process) and owner.spec == owner.before


@argo_cd
def test_a_sync_that_began_before_is_outlasted(waiting: Scene, owner: Owner) -> None:
    process = waiting.watchdog()
    deploys(waiting, owner)
    waiting.cluster.patch(owner.ref, {"status": {"operationState": {"phase": "Running"}}})
    dies(waiting)
    until(lambda: not owner.syncs(waiting.cluster.get(owner.ref)))
    pause(1)
    assert process.poll() is None and not waiting.read().final
    waiting.cluster.patch(owner.ref, {"status": {"operationState": {"phase": "Succeeded"}}})
    said = waiting.ended(process)
    assert waiting.batch == "8" and waiting.read().ended, said


@argo_cd
def test_an_owner_that_goes_on_all_the_same_is_unsafe(waiting: Scene, owner: Owner) -> None:
    process = waiting.watchdog()
    deploys(waiting, owner)
    owner.kept = True
    dies(waiting)
    waiting.said(process, "UNSAFE: the end is not proven")
    assert not waiting.read().ended


@argo_cd
def test_the_watchdog_rehearses_to_suspend_before_anything_is_deployed(control_plane, waiting: Scene, owner: Owner) -> None:
    waiting.journal.write(state=State.OPEN)
    let(
        waiting.cluster,
        waiting.namespace,
        {"apiGroups": ["*"], "resources": ["configmaps", "leases", "pods", "secrets"], "verbs": ["*"]},
    )
    waiting.kubeconfig = str(control_plane.kubeconfig("reader"))
    process = waiting.watchdog(until="")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1 and "applications.argoproj.io" in out, out


# -- before anything -------------------------------------------------------------------------------------------------


MARKS = {
    "Application": {"annotations": {"argocd.argoproj.io/tracking-id": "NS_llama:apps/Deployment:NS/tiny"}},
    "Kustomization": {"labels": {"kustomize.toolkit.fluxcd.io/name": "llama", "kustomize.toolkit.fluxcd.io/namespace": "NS"}},
    "HelmRelease": {"labels": {"helm.toolkit.fluxcd.io/name": "llama", "helm.toolkit.fluxcd.io/namespace": "NS"}},
}


@dataclass
class Ahead:
    """A scenario by a pipeline, its workload as the owner deployed it, and what preflight finds."""

    ground: Ground
    kind: str

    def plant(self, *consent: str) -> None:
        rollout = {"by": "pipeline", "owner_in": self.ground.namespace}
        more = {"mode": "promote", "users": "none", "rollout": rollout, "consent": list(consent)}
        self.ground.plant(planted_suite(), more)
        self.located = load(self.ground.folder / "scenario.yaml")
        marks = {place: {key: value.replace("NS", self.ground.namespace) for key, value in marks.items()}
                 for place, marks in MARKS[self.kind].items()}  # fmt: skip
        obj: Object = dict(self.located.objects[1])
        meta = {**obj["metadata"], **marks, "namespace": self.ground.namespace}
        self.ground.cluster.create({**obj, "metadata": meta})

    def owner(self, spec: Object, **meta: object) -> None:
        group, version, _ = KINDS[self.kind]
        of = {"name": "llama", "namespace": self.ground.namespace, **meta}
        self.ground.cluster.create({"apiVersion": f"{group}/{version}", "kind": self.kind, "metadata": of, "spec": spec})

    def apply(self, manager: str, spec: Object) -> None:
        """Server-side, as a controller does what its own source says."""
        group, version, plural = KINDS[self.kind]
        of = {"apiVersion": f"{group}/{version}", "kind": self.kind, "metadata": {"name": "llama"}, "spec": spec}
        path = f"/apis/{group}/{version}/namespaces/{self.ground.namespace}/{plural}/llama"
        query = {"fieldManager": manager, "force": "true"}
        self.ground.cluster.raw("PATCH", path, of, query, content_type="application/apply-patch+yaml")

    def found(self, cluster: Cluster | None = None) -> list[str]:
        with running("preflight.owner", CheckSpec("preflight.owner", Evidence("workload")), lambda event: None):
            return list(Preflight(cluster or self.ground.cluster, self.located, self.ground.namespace).other_owners())


@pytest.fixture
def ahead(ground: Ground, crds, kind: str) -> Ahead:
    return Ahead(ground, kind)


AUTOMATED = {"syncPolicy": {"automated": {}}}


def test_an_owner_that_is_not_there_is_named(ahead: Ahead) -> None:
    ahead.plant()
    (line,) = ahead.found()
    assert f"deployment/tiny is deployed by {ahead.kind} {ahead.ground.namespace}/llama, which is not there" in line


def test_an_owner_that_may_not_be_read_is_named(ahead: Ahead, reader: Cluster) -> None:
    ahead.plant()
    ahead.owner(AUTOMATED)
    let(ahead.ground.cluster, ahead.ground.namespace, {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})
    until(lambda: reader.can("get", "deployments", group="apps", namespace=ahead.ground.namespace))
    (line,) = ahead.found(reader)
    assert f"{ahead.kind} {ahead.ground.namespace}/llama, which cannot be read: " in line and "forbidden" in line


def test_with_consent_it_must_be_allowed_and_the_printed_role_allows_it(ahead: Ahead, reader: Cluster) -> None:
    ahead.plant("suspend-sync")
    ahead.owner(AUTOMATED)
    cluster, space = ahead.ground.cluster, ahead.ground.namespace
    group, _, plural = KINDS[ahead.kind]
    let(cluster, space, {"apiGroups": ["*"], "resources": ["deployments", plural], "verbs": ["get"]})
    until(lambda: reader.can("get", plural, group=group, namespace=space))
    assert ahead.found() == []
    assert ahead.found(reader) == [
        f"{ahead.kind} {space}/llama cannot be suspended: not allowed to patch {plural}.{group} in {space}"
    ]
    for obj in rbac(ahead.located, space, RUNNER):
        if obj["kind"] in ("Role", "RoleBinding"):
            cluster.create({**obj, **({"subjects": [PERSON]} if "subjects" in obj else {})})
    until(lambda: reader.can("patch", plural, group=group, namespace=space))
    assert ahead.found(reader) == []


@argo_cd
def test_a_generated_application_would_not_stay_suspended(ahead: Ahead) -> None:
    ahead.plant("suspend-sync")
    by = {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": "fleet", "uid": "u"}
    ahead.owner(AUTOMATED, ownerReferences=[by])
    (line,) = ahead.found()
    assert line.endswith(f"would not stay suspended: ApplicationSet {ahead.ground.namespace}/fleet writes its spec")


@argo_cd
def test_an_application_of_an_application_that_syncs_would_not_stay_suspended(ahead: Ahead) -> None:
    ahead.plant("suspend-sync")
    space = ahead.ground.namespace
    ahead.owner(
        AUTOMATED, annotations={"argocd.argoproj.io/tracking-id": f"{space}_apps:argoproj.io/Application:{space}/llama"}
    )
    assert ahead.found() == []
    ahead.owner(AUTOMATED, name="apps")
    (line,) = ahead.found()
    assert line.endswith(f"would not stay suspended: Application {space}/apps writes its spec")


@flux
def test_a_flux_object_whose_own_source_says_suspend_would_not_stay_suspended(ahead: Ahead) -> None:
    ahead.plant("suspend-sync")
    ahead.apply("kustomize-controller", {"interval": "1m"})
    assert ahead.found() == []
    ahead.apply("kustomize-controller", {"interval": "1m", "suspend": False})
    (line,) = ahead.found()
    assert line.endswith("would not stay suspended: kustomize-controller writes its spec")

"""The watchdog's Job: what it is, how it is proven alive before anything changes, and its end."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from hotfire.errors import Unjudged
from hotfire.journal.journal import MANAGED, Journal
from hotfire.kube.client import ApiError, Cluster, Conflict, Object, Ref
from hotfire.kube.deletion import delete_while
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.rollout.settle import LEAST_S, PATIENCE
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import Blame, Reason

ACCOUNT = "hotfire-watchdog"  # its ServiceAccount, made by the cluster's owner (`hotfire rbac`), never by a run
WATCHES = "hotfire.dev/watchdog"  # label: the run. Not the run's own label, by which everything is swept away in the end
ALIVE_S = 120.0  # seconds to pull the image, rehearse and hold the Lease
GONE_S = 15.0
# Requests and limits, so that it is among the last to be evicted. With 100m it waited 5 s for CPU before it watched.
RESOURCES = {"cpu": "400m", "memory": "128Mi"}
REFUSED = ("ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")


def job_name(run: str) -> str:
    """`hotfire-watchdog-20261125-050000-a1b2`."""
    return f"{ACCOUNT}-{run[-20:].lower().strip('-.')}"


def manifest(
    journal: Journal, image: str, settle_s: float, *, pulls: Sequence[str] = (), away_from: Sequence[Mapping[str, str]] = ()
) -> Object:
    """settle_s: seconds to `settle_by`; away_from: labels of pods on whose nodes it had better not be."""
    body, home = journal.body, journal.ref.namespace
    labels = {**MANAGED, WATCHES: body.run}
    lives_s = settle_s + 2 * (max(LEAST_S, PATIENCE * body.within_s) + body.soak_s)
    soon = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
        for key in ("not-ready", "unreachable")
    ]
    apart = [
        {
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname", "namespaces": [body.namespace],
                "labelSelector": {"matchLabels": dict(one)},
            },
        }
        for one in away_from
    ]  # fmt: skip
    container = {
        "name": "watchdog",
        "image": image,
        "command": ["python3", "-m", "hotfire.rollout.watchdog"],
        "args": ["--home", home, "--journal", journal.ref.name, "--run", body.run],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"requests": dict(RESOURCES), "limits": dict(RESOURCES)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    pod = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": ACCOUNT,
        "terminationGracePeriodSeconds": 5,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": soon,
        "containers": [container],
        **({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": apart}}} if apart else {}),
        **({"imagePullSecrets": [{"name": name} for name in pulls]} if pulls else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(body.run), "namespace": home, "labels": labels},
        "spec": {
            "backoffLimit": 1000,
            "activeDeadlineSeconds": math.ceil(lives_s),
            "ttlSecondsAfterFinished": 2,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def pod_on_paper(home: str) -> Object:
    """Its pod as far as it takes room on a node and in a quota."""
    container = {"name": "watchdog", "resources": {"requests": dict(RESOURCES), "limits": dict(RESOURCES)}}
    return {"metadata": {"name": ACCOUNT, "namespace": home}, "spec": {"containers": [container]}}


def prove_alive(journal: Journal, job: Object, within_s: float = ALIVE_S) -> str:
    """Its pod's name, once it runs the image, has rehearsed the way back and holds its Lease.

    Raises Unjudged with what is in the way.
    """
    cluster, home = journal.cluster, journal.ref.namespace
    selects = f"{WATCHES}={journal.body.run}"

    def alive(pods: dict[str, Object]) -> str | None:
        held = cluster.find(lease_ref(home, journal.ref.name))
        holder = str(held["spec"].get("holderIdentity") or "") if held else ""
        running = (pods.get(holder) or {}).get("status", {}).get("phase") == "Running"
        return holder if running else None

    def in_the_way(pods: dict[str, Object]) -> str | None:
        said = [line for pod in pods.values() if (line := stuck(pod))]
        return "; ".join(said) or (not_made(cluster, job) if not pods else None)

    try:
        return wait_for(
            cluster, f"the watchdog {job['metadata']['name']} watches", "v1", "Pod", home, labels=selects,
            until=alive, give_up=in_the_way, deadline_s=within_s,
        )  # fmt: skip
    except Late as late:
        text = f"the way back is not armed, nothing was changed: {late}"
        raise Unjudged(text, reason=Reason.SETUP, blame=Blame.PLATFORM) from None


def stuck(pod: Object) -> str:
    """Why this pod will not watch; what may pass by itself is left to the deadline."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in REFUSED:
            return " ".join(f"{waiting['reason']}: {waiting.get('message', '')}".split())
        for when in ("state", "lastState"):
            ended = (status.get(when) or {}).get("terminated") or {}
            if ended.get("exitCode"):
                said = (ended.get("message") or ended.get("reason") or "").strip().splitlines() or [""]
                return f"its pod ended with exit code {ended['exitCode']}: {said[-1][:300]}"
    return ""


def not_made(cluster: Cluster, job: Object) -> str | None:
    """What the Job's controller says when it may not make a pod: no ServiceAccount, a quota, an admission policy."""
    meta = job["metadata"]
    found = cluster.list("v1", "Event", meta["namespace"], fields=f"involvedObject.uid={meta['uid']}")
    return next((str(one.get("message")) for one in found if one.get("reason") == "FailedCreate"), None)


def watches(job: Object, run: str) -> bool:
    """Whether it is the watchdog of this run."""
    return bool((job["metadata"].get("labels") or {}).get(WATCHES) == run)


def remove(journal: Journal, guard: Callable[[], None] = lambda: None) -> None:
    """Job, pods and Lease of the watchdog, gone when this returns (or GONE_S later at most); safe to repeat.

    Its Lease is the journal's: another run's watchdog may hold it by now.
    """
    cluster, home = journal.cluster, journal.ref.namespace
    ref = Ref("batch/v1", "Job", home, job_name(journal.body.run))
    selects = f"{WATCHES}={journal.body.run}"
    guard()
    if (live := cluster.find(ref)) is not None:
        delete_while(cluster, live, partial(watches, run=journal.body.run), guard)
    for _ in range(round(GONE_S / 0.2)):
        try:
            if not cluster.list("v1", "Pod", home, labels=selects):
                break
        except ApiError as error:
            if not error.passing:
                raise
        pause(0.2)
    held = cluster.find(lease_ref(home, journal.ref.name))
    if held is not None:
        with suppress(Conflict):
            delete_while(cluster, held, lambda one: (one["spec"].get("holderIdentity") or ref.name).startswith(ref.name))

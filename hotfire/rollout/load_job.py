"""The load in the cluster: a Job of the `hotfire-load` image in the run's namespace, with a carrier in its pod.

It belongs to the run's anchor, so it goes when the run's Lease was taken over; it ends with its input, which is this process;
and it has a deadline of its own. It needs no rights: nothing in it speaks to the API server.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from hotfire.errors import Unjudged
from hotfire.kube.client import ApiError, Cluster, Object, Ref
from hotfire.kube.deletion import delete_while
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.load.plan import Plan
from hotfire.load.pod import CONTAINER, Pod
from hotfire.load.run import Carrier
from hotfire.load.samples import FILE, numbered
from hotfire.load.target import CA, PORT, TOKEN, Target
from hotfire.rollout.closure import written
from hotfire.rollout.deploy import pod_labels
from hotfire.rollout.job import not_made, stuck
from hotfire.rollout.population import others_of
from hotfire.rollout.probes import PURPOSE, RUN_LABEL, labelled
from hotfire.rollout.rollout import Rollout, settle_by_s
from hotfire.scenario.model import Load, Located
from hotfire.words import Blame, Reason

OUT = "/out"
UP_S, GONE_S = 120.0, 20.0  # seconds to pull the image and start; to be gone
MEMORY, LEADS = "512Mi", "200m"  # the one that leads several only passes lines on
JOB = "batch.kubernetes.io/job-name"


def manifest(
    located: Located,
    namespace: str,
    run: str,
    name: str,
    *,
    image: str,
    args: Sequence[str],
    deadline_s: float,
    cpu: str = "1",
    secret: str = "",
    pods: int = 1,
) -> Object:
    """cpu: requests and limits, so that nobody takes it; pods: side by side; secret: NAME/KEY of the key that requests carry,
    which the pod has from there and no message."""
    labels = {RUN_LABEL: run, PURPOSE: "load"}
    container = {
        "name": CONTAINER, "image": image, "command": ["python3", "-m", "hotfire.load"], "args": list(args),
        "stdin": True, "stdinOnce": True, "env": list(_key(secret)),
        "resources": _resources(cpu),
        "volumeMounts": [{"name": "out", "mountPath": OUT}, {"name": "out", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container], "volumes": [{"name": "out", "emptyDir": {}}],
        "imagePullSecrets": [{"name": pull} for pull in located.scenario.pulls],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": list(_away(located, namespace))}},
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "parallelism": pods, "completions": pods, "backoffLimit": 0, "activeDeadlineSeconds": math.ceil(deadline_s),
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }  # fmt: skip


def _key(secret: str) -> Iterator[Object]:
    if secret:
        name, _, key = secret.partition("/")
        yield {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _away(located: Located, namespace: str) -> Iterator[Object]:
    """A node of its own, if there is one: it must not take the CPU of what it measures."""
    for obj in written(located, namespace):
        if labels := pod_labels(obj, others_of(located.scenario, namespace)):
            term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
            yield {"weight": 100, "podAffinityTerm": term}


def policy(namespace: str, run: str, name: str) -> Object:
    """Only the load's own pods reach its master, whose protocol knows no password."""
    own = {"podSelector": {"matchLabels": {RUN_LABEL: run, PURPOSE: "load"}}}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own], "ports": [{"port": PORT}]}]},
    }  # fmt: skip


def on_paper(load: Load, namespace: str) -> list[Object]:
    """Its pods as far as they take room on a node and in a quota."""
    if load.from_ != "cluster":
        return []
    cpus = [load.cpu] * load.workers + [LEADS] * (load.workers > 1)
    containers = [{"name": CONTAINER, "resources": _resources(cpu)} for cpu in cpus]
    meta = {"name": "hotfire-load", "namespace": namespace}
    return [{"metadata": meta, "spec": {"containers": [container]}} for container in containers]


def _resources(cpu: str) -> Object:
    asked = {"cpu": cpu, "memory": MEMORY}
    return {"requests": dict(asked), "limits": dict(asked)}


@contextmanager
def started(
    rollout: Rollout, image: str, plan: Plan, target: Target, out: Path, *, name: str, cpu: str, workers: int, secret: str = ""
) -> Iterator[Sequence[Carrier]]:
    """The carriers of a load, up and told its plan; their Jobs and pods are gone after the block. With several workers there is
    one more pod, which leads.

    Raises Unjudged, the platform's fault, with what is in the way when a pod does not come up.
    """
    cluster, namespace = rollout.cluster, rollout.namespace
    options: Mapping[str, object] = target.options() | ({"ca": f"{OUT}/{CA}"} if target.ca else {})
    args = ["--plan", "-", "--out", OUT, *(["--calibrate"] if not plan.header.waits else [])]
    args += [word for key, value in options.items() if value != "" for word in (f"--{key}", str(value))]
    located, run = rollout.located, rollout.journal.body.run
    deadline_s = settle_by_s(located.scenario)
    job_name = f"hotfire-load-{run[-4:]}-{name}"[:48].rstrip("-")
    make = partial(manifest, located, namespace, run, image=image, deadline_s=deadline_s, secret=secret)
    with ExitStack() as jobs:
        try:
            first = rollout.add(make(job_name, cpu=LEADS if workers > 1 else cpu, args=[*args, "--workers", str(workers)]))
            jobs.callback(remove, cluster, first)
            (pod,) = _up(cluster, first)
            if workers > 1:
                jobs.callback(delete, cluster, rollout.add(policy(namespace, run, job_name)))
                crew = make(f"{job_name}-crew", args=[*args, "--master", pod["status"]["podIP"]], cpu=cpu, pods=workers)
                made = rollout.add(crew)
                jobs.callback(remove, cluster, made)
                _up(cluster, made, workers)
            wire = Pod(cluster, Ref("v1", "Pod", namespace, pod["metadata"]["name"]), plan, target.ca)
        except ApiError as error:
            raise Unjudged(f"the load in the cluster: {error.message}", reason=Reason.SETUP, blame=Blame.PLATFORM) from None
        yield [Carrier(wire, out / numbered(FILE, k, workers)) for k in range(workers)]


def _up(cluster: Cluster, job: Object, count: int = 1) -> list[Object]:
    meta = job["metadata"]

    def running(pods: dict[str, Object]) -> list[Object] | None:
        found = [pod for pod in pods.values() if (pod.get("status") or {}).get("phase") == "Running"]
        return found if len(found) == count else None

    def in_the_way(pods: dict[str, Object]) -> str | None:
        return "; ".join(line for pod in pods.values() if (line := stuck(pod))) or (
            not_made(cluster, job) if not pods else None
        )

    try:
        return wait_for(
            cluster, f"the load's pods of {meta['name']} run", "v1", "Pod", meta["namespace"], labels=f"{JOB}={meta['name']}",
            until=running, give_up=in_the_way, deadline_s=UP_S,
        )  # fmt: skip
    except Late as late:
        raise Unjudged(f"the load was not carried: {late}", reason=Reason.SETUP, blame=Blame.PLATFORM) from None


def delete(cluster: Cluster, obj: Object) -> None:
    """Safe to repeat."""
    delete_while(cluster, obj, partial(labelled, run=obj["metadata"]["labels"][RUN_LABEL]))


def remove(cluster: Cluster, job: Object) -> None:
    """A Job and its pods, gone when this returns (or GONE_S later at most); safe to repeat."""
    meta = job["metadata"]
    delete(cluster, job)
    for _ in range(round(GONE_S / 0.2)):
        with suppress(ApiError):
            if not cluster.list("v1", "Pod", meta["namespace"], labels=f"{JOB}={meta['name']}"):
                return
        pause(0.2)

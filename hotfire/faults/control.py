"""The negative control: the same injection beside the target, which the witness of the target must not see.

The decoy is a pod of the run's own on the target's node, from the candidate's image. That it really was hit is looked up
first: an injection that does nothing would leave every witness silent.
"""

import time
from dataclasses import dataclass

from hotfire.errors import Unjudged
from hotfire.faults.family import Family, Sighting, Target
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.rollout.probes import probe_pod
from hotfire.words import Reason

READY_S, HIT_S, SETTLE_S = 40.0, 40.0, 1.5  # seconds for the decoy to run, to be hit, and for a late effect to show
LIMIT = "64Mi"
LARGE = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); sleep 300 & wait"  # PID 1 holds 8 MB: the hogs are sized by it


@dataclass(frozen=True)
class Control:
    """decoy: the pod that was hit; hit: how that was seen; sighting: what the target's witness says after it."""

    decoy: str
    hit: str
    sighting: Sighting


def misaim(cluster: Cluster, anchor: Object, family: Family, target: Target, pod: Object, name: str) -> Control:
    """Hit a decoy beside the target. Raises Unjudged (CONTROL) when the decoy could not be made, or was not hit."""
    spec = pod["spec"]
    image = next(one["image"] for one in spec["containers"] if one["name"] == target.container)
    pulls = [one["name"] for one in spec.get("imagePullSecrets") or ()]
    with probe_pod(
        cluster, target.namespace, anchor, f"control-{name}", image=image, nodes=[target.node], pull_secrets=pulls,
        tolerations=spec.get("tolerations") or (), memory=LIMIT,
        command=["sh", "-c", LARGE],
    ) as decoy:  # fmt: skip
        try:
            live = wait_for(
                cluster, f"decoy {decoy.name} runs", "v1", "Pod", target.namespace,
                fields=f"metadata.name={decoy.name}", until=_running, deadline_s=READY_S,
            )  # fmt: skip
        except Late as late:
            raise Unjudged(f"no decoy to aim at: {late}", reason=Reason.CONTROL) from None
        since = cluster.server_time()
        family.inject(cluster, Target.of(live))
        hit = _hit(cluster, decoy, live)
        pause(SETTLE_S)
        return Control(decoy.name, hit, family.witness(cluster, target, since))


def _running(objects: dict[str, Object]) -> Object | None:
    for pod in objects.values():
        states = (pod.get("status") or {}).get("containerStatuses") or ()
        if states and all("running" in (one.get("state") or {}) for one in states):
            return pod
    return None


def _hit(cluster: Cluster, ref: Ref, before: Object) -> str:
    """How the decoy's end was seen. Raises Unjudged (CONTROL) when it lives on."""
    deadline = time.monotonic() + HIT_S
    while time.monotonic() < deadline:
        live = cluster.find(ref)
        if live is None or live["metadata"]["uid"] != before["metadata"]["uid"]:
            return f"{ref.name} is gone"
        for one in live["status"].get("containerStatuses") or ():
            if ended := (one.get("state") or {}).get("terminated"):
                return f"{ref.name} ended by {ended.get('reason')} with exit code {ended.get('exitCode')}"
        pause(0.2)
    raise Unjudged(f"the injection had no effect on the decoy {ref.name}", reason=Reason.CONTROL)

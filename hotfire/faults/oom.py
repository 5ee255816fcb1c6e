"""oom: one container. Hogs inside the target container take memory up to the container's own limit.

The kernel must choose the engine, not a hog. It ranks processes by resident memory plus oom_score_adj: so each hog is kept to
half of the largest process there is, and every process but the hogs gets oom_score_adj 1000, which needs no capability and
works for PID 1 and on cgroup v1, where memory.oom.group does not exist (facts: stand, traps). A single big hog would be
chosen itself: a pod with a small memory request has an oom_score_adj near 1000 already.
The hogs end by themselves after HOG_SECONDS; they lie inside the container, so its death is their end.
"""

from datetime import datetime
from typing import Any

from hotfire.errors import Unjudged
from hotfire.faults.family import Sighting, Target, inside, stamp
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.exec import run_in
from hotfire.words import Effect, Reason

HOG_SECONDS = 20
HOGS = 512
HOG = f"""
big=0
for p in /proc/[0-9]*; do
  [ "$p" = "/proc/$$" ] && continue
  echo 1000 > "$p/oom_score_adj"
  read -r _ pages _ < "$p/statm" && [ "$pages" -gt "$big" ] && big=$pages
done 2>/dev/null
piece=$((big * 2048))  # half of so many pages of 4 KiB
n=0
while [ $n -lt {HOGS} ]; do
  n=$((n + 1))
  {{ head -c $piece /dev/zero; sleep {HOG_SECONDS}; }} | timeout {HOG_SECONDS} tail -c $piece > /dev/null &
done
wait
"""
LOOK = 'for p in /proc/[0-9]*/comm; do read -r name < "$p" && [ "$name" = tail ] && echo "$p"; done 2>/dev/null; true'


class OomOneContainer:
    """Witness: the kubelet's status of the named container: OOMKilled, 137, finished in the window, a new container id."""

    name = "oom"

    def refusal(self, pod: Object, container: str) -> str:
        spec = next(item for item in pod["spec"]["containers"] if item["name"] == container)
        limited = "memory" in spec.get("resources", {}).get("limits", {})
        return "" if limited else f"container {container} has no memory limit: the node itself would run out of memory"

    def inject(self, cluster: Cluster, target: Target) -> dict[str, Any]:
        """Raises Unjudged (NO_EFFECT) when the container has no shell to start the hogs with."""
        ended = run_in(cluster, target.namespace, target.pod, target.container, ["sh", "-c", HOG], deadline_s=HOG_SECONDS + 5)
        if "executable file not found" in ended.why or ended.code in (126, 127):
            raise Unjudged(
                f"no hog in {target.pod}/{target.container}: {ended.why or ended.complained}", reason=Reason.NO_EFFECT
            )
        return {
            "hogs": f"up to {HOGS}, each half of the largest process, for at most {HOG_SECONDS} s",
            "exec ended": str(ended),
        }

    def undone(self, cluster: Cluster, target: Target) -> str:
        """The hogs died with the container, or a look inside finds none."""
        pod = cluster.find(Ref("v1", "Pod", target.namespace, target.pod))
        if pod is None or pod["metadata"]["uid"] != target.uid:
            return f"{target.pod} is gone, and what was inside it"
        status = next(item for item in pod["status"]["containerStatuses"] if item["name"] == target.container)
        if status.get("containerID") != target.container_id or "terminated" in status.get("state", {}):
            return f"container {target.container_id[-12:]} is gone, and what was inside it"
        ended = run_in(cluster, target.namespace, target.pod, target.container, ["sh", "-c", LOOK], deadline_s=10)
        return "no hog runs in the container" if ended.code == 0 and not ended.said.strip() else ""

    def witness(self, cluster: Cluster, target: Target, since: datetime) -> Sighting:
        """reason OOMKilled alone is not proof (kubernetes#140716): exit code, time, container id and count must agree."""
        pod = cluster.find(Ref("v1", "Pod", target.namespace, target.pod))
        if pod is None or pod["metadata"]["uid"] != target.uid:
            return Sighting(Effect.OTHER_CAUSE, evidence=(f"pod {target.pod} is gone, the container was not restarted in it",))
        status = next(item for item in pod["status"]["containerStatuses"] if item["name"] == target.container)
        died = (status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")) or {}
        if died.get("containerID") != target.container_id:
            return Sighting(Effect.NO_EFFECT, evidence=(f"container {target.container} of {target.pod} has not ended",))
        at = stamp(died.get("finishedAt"))
        if not inside(at, since):
            return Sighting(Effect.STALE, at, (f"it ended at {at}, before the injection",))
        if died.get("reason") != "OOMKilled" or died.get("exitCode") != 137:
            said = f"it ended by {died.get('reason')} with exit code {died.get('exitCode')}, OOMKilled with 137 is expected"
            return Sighting(Effect.OTHER_CAUSE, at, (said,))
        lines = (
            f"{target.pod}/{target.container}: OOMKilled, exit code 137 at {died['finishedAt']}",
            f"container id was {target.container_id[-12:]}, restarts {target.restarts} -> {status.get('restartCount')}",
        )
        return Sighting(Effect.CONFIRMED, at, lines, {"restarts": status.get("restartCount")})

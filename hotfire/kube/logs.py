"""Logs, bounded, of this life of a container and the one before."""

from collections.abc import Mapping
from typing import Any

from hotfire.kube.client import Cluster, Invalid, Ref
from hotfire.kube.pods import containers

Object = dict[str, Any]
BIGGEST = 8 << 20  # bytes of one log


def read_log(
    cluster: Cluster,
    pod: Object,
    container: str,
    *,
    previous: bool = False,
    tail: int | None = None,
    limit: int = BIGGEST,
    timeout: float | None = None,
) -> str | None:
    """One log, its last `tail` lines, at most `limit` bytes from where that begins; None where the kubelet has none.

    Raises NotFound and other ApiErrors: no answer is not an empty log (facts: H3).
    """
    query = {
        "container": container, "timestamps": "true", "limitBytes": str(limit), "previous": "true" if previous else "",
        "tailLines": "" if tail is None else str(tail),
    }  # fmt: skip
    try:
        text = cluster.text("GET", cluster.path(Ref.of(pod), "log"), query, limit=limit, timeout=timeout)
    except Invalid as error:
        if any(said in error.message for said in ("is waiting to start", "not found", "is not available", "is terminated")):
            return None
        raise
    # the kubelet's answer, with status 200, for a dead container whose log it has thrown away
    return None if text.startswith("unable to retrieve container logs for ") else text


def read_logs(cluster: Cluster, pod: Object, *, tail: int | None = None, limit: int = BIGGEST) -> Mapping[str, str]:
    """`pod/container` and, where it was restarted, `pod/container (previous)` -> log; without those that never ran."""
    found = {}
    for one in containers(pod):
        for previous in (False, True) if one.restarts else (False,):
            text = read_log(cluster, pod, one.name, previous=previous, tail=tail, limit=limit)
            if text is not None:
                found[f"{pod['metadata']['name']}/{one.name}{' (previous)' if previous else ''}"] = text
    return found

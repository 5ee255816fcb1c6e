"""Deleting what was read and decided on, and nothing that it has become since.

A controller writes the status of what it keeps at any moment, which is no reason to keep it: read again, decide again.
"""

from collections.abc import Callable

from hotfire.kube.client import Cluster, Conflict, NotFound, Object, Ref
from hotfire.kube.pods import terminating

TRIES = 10


def delete_while(
    cluster: Cluster,
    live: Object,
    still: Callable[[Object], bool] = lambda live: True,
    guard: Callable[[], None] = lambda: None,
) -> bool:
    """Delete it as it was read, by UID and resourceVersion, if it is `still` to go; decided anew each time it has changed.

    guard: called before each try. Pods are held to their UID alone: their status never rests. False where nothing was
    deleted: it is gone, going, another object of that name, or no longer to go. Raises Conflict when it changed TRIES times.
    """
    ref, uid = Ref.of(live), live["metadata"]["uid"]
    now, tries = live, 0
    while not terminating(now) and still(now):
        guard()
        tries += 1
        try:
            cluster.delete(ref, uid=uid, resource_version=None if ref.kind == "Pod" else now["metadata"]["resourceVersion"])
            return True
        except NotFound:
            return False
        except Conflict:
            found = cluster.find(ref)
            if found is None or found["metadata"]["uid"] != uid:
                return False
            if tries == TRIES:
                raise
            now = found
    return False

"""The fence: who takes over from another makes worthless what that one has read, and may still write, before anything else.

A mark on every object of the closure moves its resourceVersion on, so that a write that was prepared before answers 409;
without its anchor, what the run still creates is garbage. The mark is a label: a Deployment's controller copies its
annotations to its ReplicaSets, from where `kubectl rollout undo` would bring them back. Restoring takes it off again.
Not marked are claims and the Secrets that are only rested on: nobody writes them, and no snapshot could clear them of it.
"""

import copy
from collections.abc import Callable, Iterator

from hotfire.journal.entries import DeleteAdded, PutBack
from hotfire.journal.journal import Journal
from hotfire.journal.store import owed
from hotfire.kube.client import Conflict, NotFound, Object, Ref
from hotfire.kube.deletion import delete_while
from hotfire.kube.pods import terminating
from hotfire.rollout.closure import CLAIM
from hotfire.rollout.restore import anchor_ref

LABEL = "hotfire.dev/fence"
TRIES = 5


def fence(journal: Journal, guard: Callable[[], None]) -> list[str]:
    """Mark each object that is there with the journal's n, then delete the anchor; safe to repeat. The marked ones."""
    marked = [str(ref) for ref in _exposed(journal) if _mark(journal, ref, guard)]
    anchor = journal.cluster.find(anchor_ref(journal))
    if anchor is not None:
        delete_while(journal.cluster, anchor, guard=guard)
    return marked


def _exposed(journal: Journal) -> Iterator[Ref]:
    """What the run found, writes or adds, once each."""
    written = [entry.ref for entry in (*journal.of_type(PutBack), *journal.of_type(DeleteAdded))]
    found = [Ref.of(obj) for obj in owed(journal).objects]
    return (ref for ref in dict.fromkeys((*written, *found)) if ref.kind != CLAIM)


def _mark(journal: Journal, ref: Ref, guard: Callable[[], None]) -> bool:
    for attempt in range(TRIES):
        live = journal.cluster.find(ref)
        if live is None or terminating(live):
            return False
        guard()
        try:
            journal.cluster.replace(_marked(live, journal.body.n))
            return True
        except Conflict:  # whoever wrote it made older reads worthless too, but is it the run itself? Once more
            if attempt == TRIES - 1:
                raise
        except NotFound:
            return False
    return False


def _marked(live: Object, n: int) -> Object:
    meta = copy.deepcopy(live["metadata"])
    meta["labels"] = {**(meta.get("labels") or {}), LABEL: str(n)}
    return {**live, "metadata": meta}

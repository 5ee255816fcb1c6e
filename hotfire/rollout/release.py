"""After CONFIRMED: what the run made is its owner's now, and everything of the run's own goes."""

import copy
from collections.abc import Callable
from functools import partial

from hotfire.journal.entries import DeleteAdded
from hotfire.journal.journal import Journal
from hotfire.kube.client import Conflict, Object, Ref
from hotfire.kube.deletion import delete_while
from hotfire.rollout.probes import RUN_LABEL, labelled
from hotfire.rollout.restore import TRIES, anchor_ref, swept


def release(journal: Journal, guard: Callable[[], None]) -> list[str]:
    """Safe to repeat. References and labels of the candidate's objects go before the anchor does, or they would go with it.

    Returns what was written, one line each.
    """
    cluster, writes = journal.cluster, []
    anchor = cluster.find(anchor_ref(journal))
    uid = anchor["metadata"]["uid"] if anchor else ""
    for ref in [entry.ref for entry in journal.of_type(DeleteAdded) if not entry.own]:
        if _free(journal, ref, uid, guard):
            writes.append(f"released {ref}")
    for obj in swept(journal):
        if delete_while(cluster, obj, partial(labelled, run=journal.body.run), guard):
            writes.append(f"deleted {Ref.of(obj)}")
    if anchor is not None and delete_while(cluster, anchor, guard=guard):
        writes.append("deleted the anchor")
    return writes


def _free(journal: Journal, ref: Ref, anchor_uid: str, guard: Callable[[], None]) -> bool:
    """Take label and reference off; whether there was anything to take."""
    for attempt in range(TRIES):
        live = journal.cluster.find(ref)
        if live is None or not labelled(live, journal.body.run):
            return False
        guard()
        try:
            journal.cluster.replace(_freed(live, anchor_uid))
            return True
        except Conflict:  # a controller wrote its status at the same time
            if attempt == TRIES - 1:
                raise
    return False


def _freed(live: Object, anchor_uid: str) -> Object:
    meta = copy.deepcopy(live["metadata"])
    meta["labels"].pop(RUN_LABEL)
    meta["ownerReferences"] = [one for one in meta.get("ownerReferences") or () if one["uid"] != anchor_uid]
    return {**live, "metadata": meta}

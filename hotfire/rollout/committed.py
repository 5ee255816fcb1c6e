"""What was proven at the commit point, by digest in the journal: so that whoever settles the run later, without manifests,
can say whether it still stands there. Contents never; a Secret's data under the run's own key alone."""

import hashlib
import json

from hotfire.errors import HarnessError
from hotfire.journal.entries import DeleteAdded, PutBack
from hotfire.journal.journal import Journal
from hotfire.journal.store import fetch, fingerprint
from hotfire.kube.client import ApiError, Object, Ref
from hotfire.rollout.closure import autoscaled
from hotfire.rollout.may_differ import comparable
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_name


def digests(journal: Journal) -> dict[str, str]:
    """Each object that the candidate wrote -> its digest as it is live now, `gone` where it is not."""
    refs = dict.fromkeys(entry.ref for entry in journal.of_type(PutBack))
    refs |= dict.fromkeys(entry.ref for entry in journal.of_type(DeleteAdded) if not entry.own)
    key = fetch(journal).key if any(ref.kind == "Secret" for ref in refs) else b""
    return {str(ref): _digest(journal, ref, key) for ref in refs}


def moved(journal: Journal) -> list[str]:
    """One line for each object that is no longer as it was confirmed, or why that cannot be compared."""
    if not journal.body.committed:
        return ["the journal does not hold what was confirmed"]
    try:
        now = digests(journal)
    except ApiError:
        raise
    except HarnessError as error:  # who died over the tombstone may have dropped the key of the Secrets
        return [f"what was confirmed cannot be compared: {error}"]
    return [f"{ref} is not as it was confirmed" for ref, digest in journal.body.committed.items() if now.get(ref) != digest]


def _digest(journal: Journal, ref: Ref, key: bytes) -> str:
    live = journal.cluster.find(ref)
    if live is None:
        return "gone"
    if ref.kind == "Secret":
        return fingerprint(live, key).hmac
    scaled = autoscaled(journal.cluster, live)
    text = json.dumps(comparable(_released(live, journal.body.run), scaled), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _released(live: Object, run: str) -> Object:
    """Without what the run takes off itself once it has confirmed."""
    meta = live["metadata"]
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != RUN_LABEL}
    owners = [one for one in meta.get("ownerReferences") or () if one["name"] != anchor_name(run)]
    return {**live, "metadata": {**meta, "labels": labels, "ownerReferences": owners}}

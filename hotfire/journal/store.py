"""The snapshot beside the journal, inside the cluster: whoever finds the journal can restore, from any machine.

Objects lie gzipped in immutable ConfigMap chunks owned by the journal. Secrets never do: those the run changes are copied
whole into chunks that are immutable Secrets, of all others only UID, resourceVersion and an HMAC are kept, under a key in the
first of these.
"""

import base64
import binascii
import gzip
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hotfire.errors import HarnessError
from hotfire.journal.entries import Strict
from hotfire.journal.journal import MANAGED, SELECT, Journal
from hotfire.kube.client import Cluster, NotFound, Object, Ref
from hotfire.kube.deletion import delete_while

CHUNK = 700_000  # bytes of ASCII in one ConfigMap or Secret; the limit of the API is 1 MiB


class Fingerprint(Strict):
    """A Secret that the run rests on and never writes."""

    name: str
    uid: str
    resource_version: str
    hmac: str


@dataclass(frozen=True)
class Stored:
    """objects: whole, as they were; absent: names under which nothing was; rested: Secrets known by fingerprint.

    key: of the HMACs; it lies in the run's Secret and nowhere else, and is empty where no Secret is in the closure.
    """

    objects: Sequence[Object]
    absent: Sequence[Ref] = ()
    rested: Sequence[Fingerprint] = ()
    key: bytes = field(default=b"", repr=False)


def new_key() -> bytes:
    """A key for the HMACs of one run."""
    return secrets.token_bytes(32)


def fingerprint(secret: Object, key: bytes) -> Fingerprint:
    """What may be known of a Secret outside the cluster: equal values give equal HMACs only under this run's key."""
    data = {"data": secret.get("data") or {}, "type": secret.get("type", "")}
    text = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    meta = secret["metadata"]
    digest = hmac.new(key, text, hashlib.sha256).hexdigest()
    return Fingerprint(name=meta["name"], uid=meta["uid"], resource_version=meta["resourceVersion"], hmac=digest)


def keep(journal: Journal, stored: Stored, **more: object) -> None:
    """Lay the snapshot down, then name its digest in the journal. more: changes of the journal in the same write."""
    private = _parts(json.dumps([obj for obj in stored.objects if obj["kind"] == "Secret"])) if stored.key else []
    document = {
        "secrets": len(private),
        "objects": [obj for obj in stored.objects if obj["kind"] != "Secret"],
        "absent": [[ref.api_version, ref.kind, ref.namespace, ref.name] for ref in stored.absent],
        "rested": [one.model_dump() for one in stored.rested],
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    parts = _parts(base64.b64encode(gzip.compress(text, mtime=0)).decode())
    for number, part in enumerate(parts):
        _lay(journal, str(number), {"kind": "ConfigMap", "data": {"part": part}, "immutable": True})
    for number, part in enumerate(private):
        held = {"objects": part} | ({} if number else {"key": stored.key.hex()})
        _lay(journal, _secrets(number), {"kind": "Secret", "stringData": held, "immutable": True})
    journal.write(snapshot_digest=hashlib.sha256(text).hexdigest(), parts=len(parts), **more)


def fetch(journal: Journal) -> Stored:
    """The snapshot, as it was laid down. Raises HarnessError when it is not what the journal names."""
    try:
        parts = [journal.cluster.get(_beside(journal, "ConfigMap", str(n)))["data"]["part"] for n in range(journal.body.parts)]
        text = gzip.decompress(base64.b64decode("".join(parts)))
    except (NotFound, KeyError, binascii.Error, OSError, EOFError) as error:
        raise HarnessError(f"the snapshot of run {journal.body.run} cannot be read: {error}") from None
    if hashlib.sha256(text).hexdigest() != journal.body.snapshot_digest:
        raise HarnessError(f"the snapshot of run {journal.body.run} is not the one that its journal names")
    document: Mapping[str, Any] = json.loads(text)
    rested = [Fingerprint.model_validate(one) for one in document["rested"]]
    try:
        held = [journal.cluster.get(_beside(journal, "Secret", _secrets(n)))["data"] for n in range(document["secrets"])]
        text = b"".join(base64.b64decode(one["objects"]) for one in held)
        key = bytes.fromhex(base64.b64decode(held[0]["key"]).decode()) if held else b""
    except (NotFound, KeyError) as error:
        raise HarnessError(f"the Secrets beside the journal of run {journal.body.run} cannot be read: {error}") from None
    objects = [*document["objects"], *json.loads(text or b"[]")]
    return Stored(objects, [Ref(*item) for item in document["absent"]], rested, key)


def owed(journal: Journal) -> Stored:
    """What has to be put back: nothing for a run that changed nothing, whatever became of it since, or is not hotfire's to."""
    return fetch(journal) if journal.body.parts and not journal.untouched and not journal.theirs else Stored([])


def drop(journal: Journal) -> None:
    """Remove the snapshot of a run that has ended; the tombstone stays."""
    for obj in beside(journal.cluster, journal):
        delete_while(journal.cluster, obj, partial(lies_beside, journal))


def beside(cluster: Cluster, journal: Journal) -> list[Object]:
    """What lies beside the journal and is owned by it."""
    kinds, home = ("ConfigMap", "Secret"), journal.ref.namespace
    return [obj for kind in kinds for obj in cluster.list("v1", kind, home, labels=SELECT) if lies_beside(journal, obj)]


def lies_beside(journal: Journal, obj: Object) -> bool:
    """Whether it is hotfire's and owned by this journal."""
    meta, uid = obj["metadata"], journal.live["metadata"]["uid"]
    owned = any(owner["uid"] == uid for owner in meta.get("ownerReferences") or ())
    return owned and MANAGED.items() <= (meta.get("labels") or {}).items()


def _parts(text: str) -> list[str]:
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]


def _secrets(number: int) -> str:
    return f"secrets-{number}" if number else "secrets"


def _beside(journal: Journal, kind: str, suffix: str) -> Ref:
    return Ref("v1", kind, journal.ref.namespace, f"{journal.ref.name}-{journal.body.run[-12:].lower()}-{suffix}")


def _lay(journal: Journal, suffix: str, obj: Object) -> None:
    ref = _beside(journal, obj["kind"], suffix)
    meta = {"name": ref.name, "namespace": ref.namespace, "labels": dict(MANAGED), "ownerReferences": [journal.owner()]}
    if (old := journal.cluster.find(ref)) is not None:  # of a try that died before the journal named it
        delete_while(journal.cluster, old)
    journal.cluster.create({"apiVersion": "v1", **obj, "metadata": meta})

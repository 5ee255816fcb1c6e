"""Helm keeps what it says of a release in Secrets, one for each revision: they are of the closure where Helm is the pipeline,
so that after a rollback `helm status` says what serves, and the next `helm upgrade` starts from there."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from hotfire.kube.client import Cluster, Object, Ref

RELEASE = "helm.sh/release.v1"  # the Secrets' type
NAME, NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"  # annotations of what a release deployed


def releases(cluster: Cluster, namespace: str, objects: Iterable[Object]) -> Iterator[Object]:
    """Of the releases that these objects are of: the revision that is deployed, and the newest.

    An upgrade writes these two; all history at once may be more than one Secret beside the journal can hold.
    """
    for name in _named(namespace, objects):
        found = revisions(cluster, namespace, name)
        yield from (one for one in found if one is found[-1] or one["metadata"]["labels"].get("status") == "deployed")


def names(cluster: Cluster, namespace: str) -> Sequence[str]:
    """Of all releases there."""
    found = cluster.list("v1", "Secret", namespace, labels="owner=helm")
    return sorted({one["metadata"]["labels"]["name"] for one in found if one.get("type") == RELEASE})


def installed(cluster: Cluster, namespace: str, added: Iterable[Ref], known: Collection[str]) -> Iterator[Object]:
    """All revisions of the releases that added these objects, known ones aside. While the objects are there: they name them."""
    live = filter(None, map(cluster.find, added))
    for name in _named(namespace, live):
        yield from () if name in known else revisions(cluster, namespace, name)


def _named(namespace: str, objects: Iterable[Object]) -> Sequence[str]:
    noted = [obj["metadata"].get("annotations") or {} for obj in objects]
    return sorted({one[NAME] for one in noted if NAME in one and one.get(NAMESPACE, namespace) == namespace})


def revisions(cluster: Cluster, namespace: str, release: str) -> Sequence[Object]:
    """A release's Secrets, oldest first."""
    found = cluster.list("v1", "Secret", namespace, labels=f"owner=helm,name={release}")
    return sorted((one for one in found if one.get("type") == RELEASE), key=_revision)


def later(cluster: Cluster, stored: Iterable[Object]) -> Iterator[Object]:
    """Revisions that are there now and are newer than what was stored of their release."""
    newest: dict[tuple[str, str], int] = {}
    for obj in stored:
        if obj["kind"] == "Secret" and obj.get("type") == RELEASE:
            of = obj["metadata"]["namespace"], obj["metadata"]["labels"]["name"]
            newest[of] = max(newest.get(of, 0), _revision(obj))
    for (namespace, release), revision in newest.items():
        yield from (one for one in revisions(cluster, namespace, release) if _revision(one) > revision)


def same_revision(one: Object, live: Object) -> bool:
    """Whether it is that release's revision yet: Helm itself moves a revision's status on."""
    return _of(one) == _of(live)


def _of(secret: Object) -> Sequence[object]:
    labels = secret["metadata"].get("labels") or {}
    return [secret.get("type"), *map(labels.get, ("owner", "name", "version"))]


def _revision(secret: Object) -> int:
    return int(secret["metadata"]["labels"]["version"])

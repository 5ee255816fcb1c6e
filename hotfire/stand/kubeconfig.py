"""The user's own cluster: which context, which namespace."""

from dataclasses import dataclass

from hotfire.errors import BadInput
from hotfire.kube.client import Cluster, Forbidden, NotFound, Object, Ref

FIRST_S = 3.0  # for the first word of an API server: nothing is at stake yet, and a wrong address should be said soon


@dataclass(frozen=True)
class UserStand:
    """A cluster and the namespace to run in. found: the Namespace object; None if absent or not readable."""

    cluster: Cluster
    namespace: str
    found: Object | None


def resolve(
    kubeconfig: str | None, context: str | None, namespace: str, *, create: bool = False, timeout: float = 10
) -> UserStand:
    """Reach the cluster and find the namespace; create: the run will make it, so it must not be there yet.

    Raises BadInput with one line: no kubeconfig, unknown context, unreachable API server, refused credentials, a
    namespace that is missing, foreign (to be created, yet there) or on its way out.
    """
    cluster = Cluster.connect(kubeconfig, context, timeout, first=FIRST_S)
    where = f"namespace {namespace} (context {cluster.context})"
    try:
        found = cluster.get(Ref("v1", "Namespace", "", namespace))
    except NotFound:
        if create:
            return UserStand(cluster, namespace, None)
        raise BadInput(f"{where}: not there: create it, or say `namespace: {{create: true}}` in the scenario") from None
    except Forbidden as error:
        # a Role cannot hold the right to read its own Namespace, but it exists nowhere but in a namespace that is there
        if not create and cluster.can("list", "pods", namespace=namespace):
            return UserStand(cluster, namespace, None)
        raise BadInput(f"{where}: {error.message}") from None
    if found["metadata"].get("deletionTimestamp"):
        raise BadInput(f"{where}: terminating since {found['metadata']['deletionTimestamp']}: wait, or name another")
    if create:
        made = found["metadata"]["creationTimestamp"]
        raise BadInput(f"{where}: there since {made}, made by somebody else: a run never takes over a namespace it must delete")
    return UserStand(cluster, namespace, found)

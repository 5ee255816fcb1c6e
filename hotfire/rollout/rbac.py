"""ServiceAccounts, Roles and bindings that are minimal for a scenario, as objects to be applied by the cluster's owner.

hotfire prints them (`hotfire rbac SCENARIO`) and never creates them on a user's cluster.
"""

from collections.abc import Iterator, Sequence

from hotfire.kube.client import Object
from hotfire.rollout.job import ACCOUNT
from hotfire.rollout.rights import HELPFUL, Right, foreign_rights, owner_rights, prerequisite_rights, rights, watchdog_rights
from hotfire.scenario.model import Located

RUNNER = "hotfire"  # the run's own identity
GROUP = "rbac.authorization.k8s.io"


def rbac(located: Located, home: str, only: str = "") -> list[Object]:
    """For the run and for its watchdog. home: where Lease and journal lie; only: one of the two accounts."""
    back = [*watchdog_rights(located), *owner_rights(located), *foreign_rights(located)]
    # the run's too: itself or `hotfire abort` may have to restore
    asked = [*rights(located), *prerequisite_rights(located), *HELPFUL, *back]
    wanted = {RUNNER: list(dict.fromkeys(asked)), ACCOUNT: back}
    return [obj for name, asked in wanted.items() if only in ("", name) for obj in _for(name, asked, located, home)]


def _for(name: str, asked: Sequence[Right], located: Located, home: str) -> Iterator[Object]:
    """A namespace that the run makes cannot hold a Role yet: there all is granted cluster-wide."""
    stand = located.scenario.stand
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": home}}
    away = {right.namespace: [one for one in asked if one.namespace == right.namespace] for right in asked if right.namespace}
    inside = [right for right in asked if right.namespaced and not stand.create and not right.namespace]
    beyond = [right for right in asked if not right.namespaced or stand.create]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": home}
    if inside:
        yield from _granted("Role", {"name": name, "namespace": stand.namespace}, inside, subject)
    for namespace, those in away.items():
        yield from _granted("Role", {"name": f"{name}-{stand.namespace}", "namespace": namespace}, those, subject)
    if beyond:
        yield from _granted("ClusterRole", {"name": f"{name}-{stand.namespace}"}, beyond, subject)


def _granted(kind: str, meta: Object, asked: Sequence[Right], subject: Object) -> Iterator[Object]:
    api = f"{GROUP}/v1"
    yield {"apiVersion": api, "kind": kind, "metadata": meta, "rules": _rules(asked)}
    role = {"apiGroup": GROUP, "kind": kind, "name": meta["name"]}
    yield {"apiVersion": api, "kind": f"{kind}Binding", "metadata": meta, "roleRef": role, "subjects": [subject]}


def _rules(asked: Sequence[Right]) -> list[Object]:
    """One rule for each resource, its verbs together."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in asked:
        resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
        known = verbs.setdefault((right.group, resource), [])
        known += [right.verb] if right.verb not in known else []
    return [{"apiGroups": [group], "resources": [resource], "verbs": known} for (group, resource), known in verbs.items()]

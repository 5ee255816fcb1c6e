"""The Secrets of a scenario: what the redactor must know before the first line is written, and what a namespace gets copied."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from hotfire.errors import BadInput
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.record.redactor import Redactor
from hotfire.scenario.model import Located, PullSecret

DOCKER = ".dockerconfigjson"  # the key of a pull secret
SHORT = 8  # characters: a shorter value of a key that nobody named is no secret worth a search


def learn(cluster: Cluster, located: Located, redactor: Redactor) -> None:
    """Teach the redactor every value that must never be written. Raises BadInput for a Secret or a key that is missing."""
    scenario, namespace = located.scenario, secrets_in(located)
    wrong = []
    for index, item in enumerate(scenario.secrets):
        name, key = (item.pull, DOCKER) if isinstance(item, PullSecret) else (item.name, item.key)
        live = secret_values(cluster, namespace, name)
        values = _written(located, name) or live
        if key not in values:
            seen = f"has no key {key}" if values else "is not there"
            wrong.append(
                f"{located.where('secrets', index)}: Secret {name} in {namespace} {seen}, a Secret with it is expected"
            )
        else:
            redactor.add(f"{name}/{key}", values[key])
        for one in (values, live):  # what is there, too, where the manifests bring another
            every(redactor, name, one)
    if scenario.reach.auth is not None:
        name, _, key = scenario.reach.auth.secret.partition("/")
        values = _written(located, name) or secret_values(cluster, namespace, name)
        if key not in values:
            where = located.where("reach", "auth", "secret")
            wrong.append(f"{where}: Secret {name} in {namespace} has no key {key}, the key that requests carry is expected")
        elif re.fullmatch(r"[\x21-\x7e]+", values[key]) is None:
            where = located.where("reach", "auth", "secret")
            wrong.append(
                f"{where}: the value of {key} in Secret {name} is empty or holds what no header may, as the end of a line: "
                "a key without is expected, made by `printf %s` instead of `echo`"
            )
        else:
            redactor.add(f"{name}/{key}", values[key])
    if wrong:
        raise BadInput(*wrong)


def every(redactor: Redactor, name: str, values: Mapping[str, str]) -> None:
    """Teach it all values of a Secret that can be told from ordinary text."""
    for key, value in values.items():
        if len(value.strip()) >= SHORT:
            redactor.add(f"{name}/{key}", value)


def secret_values(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """Key -> value of a Secret, decoded; empty when there is none."""
    live = cluster.find(Ref("v1", "Secret", namespace, name))
    data: Mapping[str, str] = (live or {}).get("data") or {}
    return {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in data.items()}


def _written(located: Located, name: str) -> dict[str, str]:
    """The values of a Secret that the manifests bring themselves."""
    for obj in located.objects:
        found: Any = obj
        if (found["kind"], found["metadata"]["name"]) == ("Secret", name):
            data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (found.get("data") or {}).items()}
            return data | dict(found.get("stringData") or {})
    return {}


def copied(cluster: Cluster, located: Located) -> list[Object]:
    """The Secrets that a namespace of the run's own gets from `secrets_from`."""
    scenario = located.scenario
    if not scenario.stand.secrets_from:
        return []
    names = dict.fromkeys([*scenario.pulls, *(item.name for item in scenario.injected)])
    if scenario.reach.auth is not None:
        names |= {scenario.reach.auth.secret.partition("/")[0]: None}
    made = []
    for name in names:
        if not _written(located, name):
            live = cluster.get(Ref("v1", "Secret", scenario.stand.secrets_from, name))
            meta = {"name": name, "namespace": scenario.stand.namespace}
            made.append({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": live["type"], "data": live["data"]})
    return made


def secrets_in(located: Located) -> str:
    """The namespace that holds them before the run."""
    stand = located.scenario.stand
    return stand.secrets_from or stand.namespace

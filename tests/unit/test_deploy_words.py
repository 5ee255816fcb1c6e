"""What a deploy says of an object that somebody changed meanwhile; of a Secret never what it holds."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.errors import Breach
from hotfire.kube.client import Ref
from hotfire.rollout.deploy import Deploy
from hotfire.words import Blame


def changed(kind: str, before: str, live: str) -> Breach:
    def obj(value: str, version: str) -> dict[str, Any]:
        data = base64.b64encode(value.encode()).decode() if kind == "Secret" else value
        meta = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": version}
        return {"apiVersion": "v1", "kind": kind, "metadata": meta, "data": {"k": data}}

    old, now = obj(before, "1"), obj(live, "2")
    cluster: Any = SimpleNamespace(get=lambda _: now, list=lambda *_, **__: [])
    deploy = Deploy(cluster, [old], {Ref.of(old): old}, SimpleNamespace(others={}), {}, lambda: None)  # type: ignore[arg-type]
    with pytest.raises(Breach) as breach:
        deploy._write(old)
    return breach.value


def test_what_differs_of_a_configmap_is_said() -> None:
    found = changed("ConfigMap", "8", "16")
    assert found.blame is Blame.PLATFORM and "'16' is there, '8' is expected" in str(found.details)


def test_what_a_rotated_secret_holds_is_not() -> None:
    """Its new value came after the redactor had learned the old one."""
    found = changed("Secret", "hf_OLDsecret", "hf_NEWsecret")
    text = f"{found} {found.details}"
    assert "secret/a" in text and "somebody changed it since the snapshot" in text
    assert not any(base64.b64encode(one.encode()).decode()[:8] in text for one in ("hf_OLDsecret", "hf_NEWsecret"))

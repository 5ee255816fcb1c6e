"""The client against a real API server: what is refused, by class and in one line, and what is never done blindly."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hotfire.errors import BadInput, HarnessError
from hotfire.kube.client import (
    JSON_PATCH,
    MERGE,
    Cluster,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Object,
    Ref,
    UnknownKind,
    Unreachable,
)


def config_map(namespace: str, name: str = "one", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def test_an_object_comes_back_as_it_was_sent(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, a="1"))
    read = cluster.get(Ref.of(made))
    assert read == made
    assert read["data"] == {"a": "1"}
    assert read["metadata"]["managedFields"][0]["manager"] == "hotfire"


def test_a_taken_name_is_a_conflict_and_the_first_object_stays(cluster: Cluster, namespace: str) -> None:
    first = cluster.create(config_map(namespace, a="1"))
    with pytest.raises(Conflict) as caught:
        cluster.create(config_map(namespace, a="2"))
    assert caught.value.reason == "AlreadyExists"
    assert cluster.get(Ref.of(first))["data"] == {"a": "1"}


def test_a_missing_object_is_not_found_and_find_gives_none(cluster: Cluster, namespace: str) -> None:
    ref = Ref("v1", "ConfigMap", namespace, "absent")
    assert cluster.find(ref) is None
    with pytest.raises(NotFound, match='get configmap/absent: configmaps "absent" not found'):
        cluster.get(ref)


def test_an_unknown_kind_is_never_taken_for_an_absent_object(cluster: Cluster, namespace: str) -> None:
    for version, kind in (("v1", "ConfigMapp"), ("nobody.example/v1", "Thing")):
        with pytest.raises(UnknownKind, match=f"no kind {kind} in {version}"):
            cluster.find(Ref(version, kind, namespace, "x"))


def test_a_replace_of_a_moved_object_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    old = cluster.create(config_map(namespace, a="1"))
    new = cluster.replace({**old, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        cluster.replace({**old, "data": {"a": "3"}})
    assert cluster.get(Ref.of(new))["data"] == {"a": "2"}


def test_a_replace_without_resource_version_is_not_even_sent(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, a="1"))
    with pytest.raises(HarnessError, match="overwrite blindly"):
        cluster.replace(config_map(namespace, a="2"))
    assert cluster.get(Ref.of(made)) == made


def test_delete_hits_only_the_object_of_that_uid_and_version(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, a="1"))
    ref, uid = Ref.of(made), made["metadata"]["uid"]
    moved = cluster.replace({**made, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        cluster.delete(ref, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Conflict):
        cluster.delete(ref, uid=uid, resource_version=made["metadata"]["resourceVersion"])
    with pytest.raises(HarnessError, match="without a UID"):
        cluster.delete(ref, uid="")
    assert cluster.find(ref) == moved
    cluster.delete(ref, uid=uid, resource_version=moved["metadata"]["resourceVersion"])
    with pytest.raises(NotFound):
        cluster.delete(ref, uid=uid)


def test_a_dry_run_changes_nothing(cluster: Cluster, namespace: str) -> None:
    proposed = cluster.create(config_map(namespace, a="1"), dry_run=True)
    assert proposed["metadata"]["uid"] and cluster.find(Ref.of(proposed)) is None
    made = cluster.create(config_map(namespace, a="1"))
    cluster.replace({**made, "data": {"a": "2"}}, dry_run=True)
    cluster.patch(Ref.of(made), {"data": {"a": "3"}}, MERGE, dry_run=True)
    cluster.delete(Ref.of(made), uid=made["metadata"]["uid"], dry_run=True)
    assert cluster.get(Ref.of(made)) == made


def test_an_unknown_field_is_refused_in_one_line_that_names_it(cluster: Cluster, namespace: str) -> None:
    wrong = {**config_map(namespace), "dataa": {"a": "1"}}
    with pytest.raises(Invalid) as caught:
        cluster.create(wrong)
    assert 'unknown field "dataa"' in str(caught.value) and "\n" not in str(caught.value)
    assert cluster.find(Ref.of(wrong)) is None
    made = cluster.create(config_map(namespace))
    with pytest.raises(Invalid, match='unknown field "dataa"'):
        cluster.replace({**made, "dataa": {}})


def test_patches_change_what_they_name(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, a="1", b="1"))
    operations = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "2"}]
    assert cluster.patch(Ref.of(made), operations, JSON_PATCH)["data"] == {"a": "2", "b": "1"}
    assert cluster.patch(Ref.of(made), {"data": {"b": None}}, MERGE)["data"] == {"a": "2"}
    with pytest.raises(Invalid):
        cluster.patch(Ref.of(made), operations, JSON_PATCH)
    with pytest.raises(HarnessError, match="does not go with"):
        cluster.patch(Ref.of(made), {"data": {}}, JSON_PATCH)


def test_managed_fields_can_be_set_back(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, a="1"))
    kept = [{**made["metadata"]["managedFields"][0], "manager": "the-owner"}]
    edited = cluster.replace({**made, "data": {"a": "2"}})
    edited["metadata"]["managedFields"] = kept
    assert [one["manager"] for one in cluster.replace(edited)["metadata"]["managedFields"]] == ["the-owner"]


def test_a_list_holds_every_page_and_names_each_kind(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotfire.kube.client.PAGE", 2)
    for number in range(5):
        made = cluster.create(config_map(namespace, f"m{number}"))
        cluster.patch(Ref.of(made), {"metadata": {"labels": {"odd": str(number % 2)}}})
    found = cluster.list("v1", "ConfigMap", namespace)
    assert [str(Ref.of(item)) for item in found] == [f"configmap/m{number}" for number in range(5)]
    assert len(cluster.list("v1", "ConfigMap", namespace, labels="odd=1")) == 2
    assert len(cluster.list("v1", "ConfigMap", namespace, fields="metadata.name=m3")) == 1


def grant(cluster: Cluster, namespace: str, user: str, verbs: list[str], resource: str, group: str = "") -> None:
    api = "rbac.authorization.k8s.io"
    meta = {"name": f"{user}-{resource}", "namespace": namespace}
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": verbs}]
    cluster.create({"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": rules})
    binding = {
        "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": api, "kind": "Role", "name": meta["name"]},
        "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
    }  # fmt: skip
    cluster.create(binding)


def test_rights_are_told_verb_by_verb(cluster: Cluster, reader: Cluster, namespace: str) -> None:
    grant(cluster, namespace, "reader", ["get", "list"], "configmaps")
    grant(cluster, namespace, "reader", ["patch"], "deployments", "apps")
    asked = {verb: reader.can(verb, "configmaps", namespace=namespace) for verb in ("get", "list", "create", "delete")}
    assert asked == {"get": True, "list": True, "create": False, "delete": False}
    assert reader.can("patch", "deployments", group="apps", namespace=namespace)
    assert not reader.can("patch", "deployments", namespace=namespace)
    assert not reader.can("patch", "deployments", group="apps", namespace=namespace, subresource="status")
    assert not reader.can("get", "configmaps", namespace="default")


def test_a_forbidden_verb_is_named(cluster: Cluster, reader: Cluster, namespace: str) -> None:
    grant(cluster, namespace, "reader", ["get"], "configmaps")
    made = cluster.create(config_map(namespace, a="1"))
    assert reader.get(Ref.of(made)) == made
    with pytest.raises(Forbidden, match='cannot delete resource "configmaps"'):
        reader.delete(Ref.of(made), uid=made["metadata"]["uid"])
    with pytest.raises(Forbidden, match='cannot list resource "configmaps"'):
        reader.list("v1", "ConfigMap", namespace)
    assert cluster.find(Ref.of(made)) == made


def test_the_servers_clock_is_read(cluster: Cluster) -> None:
    assert abs(cluster.server_time() - datetime.now(UTC)) < timedelta(seconds=2)
    offset, half_width = cluster.clock_offset()
    assert abs(offset) <= half_width < 1


def test_unfit_kubeconfigs_get_one_line(control_plane, tmp_path: Path) -> None:
    good = control_plane.kubeconfig("admin")
    files = {name: tmp_path / name for name in ("empty", "text", "dead", "stranger")}
    files["empty"].write_text("")
    files["text"].write_text("- just\n- a list\n")
    files["dead"].write_text(good.read_text().replace(str(control_plane.port), "1"))
    files["stranger"].write_text(good.read_text().replace('"token": "admin"', '"token": "nobody"'))
    cases = [
        (str(tmp_path / "absent"), None, "no such kubeconfig"),
        (str(files["empty"]), None, "kubeconfig"),
        (str(files["text"]), None, "kubeconfig"),
        (str(files["dead"]), None, "unreachable: .*refused"),
        (str(files["stranger"]), None, "refuses the credentials"),
        (str(good), "elsewhere", "no context 'elsewhere': admin"),
    ]
    for kubeconfig, context, said in cases:
        with pytest.raises(BadInput, match=said) as caught:
            Cluster.connect(kubeconfig, context, timeout=2, first=1)
        assert len(caught.value.lines) == 1 and "\n" not in caught.value.lines[0]


def test_a_deaf_server_is_unreachable_by_the_deadline_and_writes_are_not_repeated(control_plane, namespace: str) -> None:
    cluster = Cluster.connect(str(control_plane.kubeconfig("admin")), timeout=1)
    before = datetime.now(UTC)
    control_plane.freeze_api()
    try:
        for call in (
            lambda: cluster.get(Ref("v1", "Namespace", "", namespace)),
            lambda: cluster.raw("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map(namespace)),
        ):
            with pytest.raises(Unreachable):
                call()
    finally:
        control_plane.thaw_api()
    assert timedelta(seconds=1.8) < datetime.now(UTC) - before < timedelta(seconds=4)

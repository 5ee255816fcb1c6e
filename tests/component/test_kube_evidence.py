"""Events, bundles, exec and the user's stand, as far as an API server without nodes can show them."""

import stat
from pathlib import Path

import pytest

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.kube.bundle import collect
from hotfire.kube.client import Cluster, Forbidden, NotFound, Object, Ref
from hotfire.kube.events import EventWatch, line
from hotfire.kube.exec import run_in
from hotfire.kube.wait import pause
from hotfire.stand.kubeconfig import resolve
from hotfire.stand.pytest_kubernetes import provided


def event(namespace: str, name: str, uid: str = "u1") -> Object:
    about = {"kind": "Pod", "namespace": namespace, "name": "llama-0", "uid": uid}
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about, "reason": "BackOff", "message": "token s3cret\nis wrong", "type": "Warning", "count": 1,
    }  # fmt: skip


def pod(namespace: str, name: str = "llama-0") -> Object:
    container = {"name": "llama", "image": "x", "env": [{"name": "TOKEN", "value": "s3cret"}]}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def test_only_events_after_the_watch_began_are_seen(cluster: Cluster, namespace: str) -> None:
    old = cluster.create(event(namespace, "old"))
    with EventWatch(cluster, namespace) as watch:
        cluster.create(event(namespace, "new"))
        cluster.create(event(namespace, "other", uid="u2"))
        cluster.replace({**old, "count": 7})
        for _ in range(20):
            if len(watch.seen()) == 3:
                break
            pause(0.1)
        assert sorted(item["metadata"]["name"] for item in watch.about("u1")) == ["new", "old"]
        assert watch.gaps == 0 and line(watch.about("u2")[0]).endswith("Warning BackOff pod/llama-0: token s3cret is wrong")


def test_a_bundle_is_redacted_and_says_what_it_lacks(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.create(pod(namespace))
    cluster.create(event(namespace, "e1"))
    bundle = collect(cluster, namespace, tmp_path / "bundle", lambda text: text.replace("s3cret", "[redacted]"))
    texts = {file.name: file.read_text() for file in (tmp_path / "bundle").iterdir()}
    assert sorted(texts) == sorted(bundle.files)
    assert "BackOff pod/llama-0: token [redacted]" in texts["events.txt"]
    assert "llama-0  STARTING: Pending: not scheduled yet" in texts["pods.txt"]
    assert not any("s3cret" in text for text in texts.values()) and "[redacted]" in texts["pods.json"]
    assert bundle.seconds < 3


def test_a_bundle_survives_an_api_server_that_is_deaf_or_refuses(
    control_plane, cluster: Cluster, reader: Cluster, namespace: str, tmp_path: Path
) -> None:
    refused = collect(reader, namespace, tmp_path / "refused", str)
    assert any('cannot list resource "pods"' in line for line in refused.left_out)
    control_plane.freeze_api()
    try:
        deaf = collect(cluster, namespace, tmp_path / "deaf", str, within=2)
    finally:
        control_plane.thaw_api()
    assert deaf.seconds < 3 and any("no time left" in line for line in deaf.left_out)


def test_exec_without_an_answer_is_unknown_and_never_clean(cluster: Cluster, reader: Cluster, namespace: str) -> None:
    cluster.create(pod(namespace))
    ended = run_in(cluster, namespace, "llama-0", "llama", ["true"], deadline_s=5)
    assert ended.code is None and "does not have a host assigned" in ended.why
    with pytest.raises(Unjudged, match="does not have a host assigned"):
        assert ended.stdout
    with pytest.raises(NotFound):
        run_in(cluster, namespace, "nobody", "llama", ["true"], deadline_s=5)
    with pytest.raises(Forbidden, match="pods/exec"):
        run_in(reader, namespace, "llama-0", "llama", ["true"], deadline_s=5)


def test_a_users_stand_is_resolved_or_refused_in_one_line(control_plane, cluster: Cluster, namespace: str) -> None:
    kubeconfig = str(control_plane.kubeconfig("admin"))
    assert resolve(kubeconfig, None, namespace).found == cluster.get(Ref("v1", "Namespace", "", namespace))
    assert resolve(kubeconfig, "admin", "to-be-made", create=True).found is None
    cases = [
        ({"namespace": "absent"}, "namespace absent .*: not there"),
        ({"namespace": namespace, "create": True}, "made by somebody else"),
        ({"namespace": namespace, "context": "prod"}, "no context 'prod': admin"),
    ]
    for asked, said in cases:
        with pytest.raises(BadInput, match=said) as caught:
            resolve(kubeconfig, **{"context": None, **asked})
        assert len(caught.value.lines) == 1
    with pytest.raises(BadInput, match='cannot get resource "namespaces"'):
        resolve(str(control_plane.kubeconfig("reader")), None, namespace)


def test_a_terminating_namespace_is_refused(control_plane, cluster: Cluster) -> None:
    made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "leaving-"}})
    cluster.delete(Ref.of(made), uid=made["metadata"]["uid"])
    with pytest.raises(BadInput, match="terminating since"):
        resolve(str(control_plane.kubeconfig("admin")), None, made["metadata"]["name"])


MAKER = """#!/bin/sh
[ "$1" = --version ] && echo "k3d version v5.8.3" && exit
echo "$*" >> {asked}
case "$*" in
  *create*pytest-taken*) echo "node(s) already exist" >&2; exit 1;;
  "create cluster"*) cp {source} "$6";;
  "kubeconfig get"*) cat {source};;
esac
"""


@pytest.fixture
def programs(control_plane, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real kubectl, and a `kind` and a `k3d` that hand out this API server as their cluster and note what is asked."""
    if cluster.find(Ref("v1", "ServiceAccount", "default", "default")) is None:
        meta = {"name": "default", "namespace": "default"}
        cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").symlink_to(control_plane.binaries["kubectl"])
    source = control_plane.kubeconfig("admin")
    for name in ("kind", "k3d"):
        (folder / name).write_text(MAKER.format(asked=tmp_path / "asked", source=source))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "asked"


@pytest.mark.parametrize(("provider", "wanted"), [
    ("kind", ["create cluster --name pytest-mine", "delete cluster --name pytest-mine"]),
    ("k3d", ["cluster create pytest-mine", "kubeconfig get pytest-mine", "cluster delete pytest-mine"]),
])  # fmt: skip
def test_pytest_kubernetes_deletes_exactly_what_it_made(programs: Path, provider: str, wanted: list[str]) -> None:
    with provided(provider, "mine") as made:
        assert Cluster.connect(str(made.kubeconfig)).version.startswith("v1.")
        assert stat.S_IMODE(made.kubeconfig.stat().st_mode) == 0o600
    asked = [line.partition(" --kubeconfig")[0] for line in programs.read_text().splitlines()]
    assert asked == wanted and not made.kubeconfig.exists()


@pytest.mark.parametrize("provider", ["kind", "k3d"])
def test_a_cluster_that_was_there_before_is_never_deleted(programs: Path, provider: str) -> None:
    with pytest.raises(HarnessError, match="already exist"), provided(provider, "taken"):
        raise AssertionError("it was adopted")
    assert ["create" in line for line in programs.read_text().splitlines()] == [True]


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="provider k3d needs k3d on PATH"), provided("k3d", "mine"):
        raise AssertionError("it went on without")

"""Bad manifests: each gets its file, line and column; and what kubectl would read is read."""

# ruff: noqa: E501 - one row of the table is one line

from pathlib import Path

import pytest

from hotfire.scenario.loader import load
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
MANIFESTS, SCENARIO = base.MANIFESTS, base.SCENARIO
ALL = "manifests/all.yaml"

# what -> (old, new, the line), on the manifests of a sound scenario
BAD: dict[str, tuple[str, str, str]] = {
    "cluster-scoped": ("---\n", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n", f"{ALL}:14:1: Namespace team is cluster-scoped, allowed only under prerequisites/"),
    "foreign namespace": ("{name: tiny}", "{name: tiny, namespace: prod}", f"{ALL}:15:24: namespace 'prod' is foreign, 'team' or none is allowed"),
    "another workload": ("name: tiny, labels", "name: big, labels", "scenario.yaml:7:18: manifests holds no Deployment tiny, there is: big"),
    "another kind of workload": ("kind: Deployment", "kind: StatefulSet", "scenario.yaml:7:18: manifests holds no Deployment tiny, there is no Deployment at all"),
    "no such Service": ("metadata: {name: tiny}", "metadata: {name: big}", "scenario.yaml:7:44: manifests holds no Service tiny, there is: big"),
    "a Service that selects something else": ("spec: {selector: {app: tiny}", "spec: {selector: {app: big}", f"{ALL}:16:19: Service tiny selects app=big, the pods of Deployment tiny have app=tiny"),
    "a Service that selects too much": ("spec: {selector: {app: tiny}", "spec: {selector: {app: tiny, tier: a}", f"{ALL}:16:30: Service tiny selects tier=a, the pods of Deployment tiny have no label tier"),
    "a Service without a selector": ("{selector: {app: tiny}, ports", "{ports", f"{ALL}:16:1: Service tiny selects nothing, labels of tiny's pods are expected"),
    "a workload that selects something else": ("matchLabels: {app: tiny}", "matchLabels: {app: big}", f"{ALL}:6:28: Deployment tiny selects app=big, the pods of Deployment tiny have app=tiny"),
    "a Service without a port": (", ports: [{port: 80}]", "", "scenario.yaml:7:7: Service tiny has 0 ports, `port` says which: none"),
    "a Service with two ports": ("[{port: 80}]", "[{name: a, port: 80}, {name: b, port: 81}]", "scenario.yaml:7:7: Service tiny has 2 ports, `port` says which: a 80, b 81"),
    "two containers": ("      containers:\n", "      containers:\n        - {name: side, image: i}\n", "scenario.yaml:7:7: deployment/tiny has 2 containers, `container` says which: side, tiny"),
    "no image": (", image: registry/tiny@sha256:0123", "", f"{ALL}:10:7: Deployment tiny holds no pod template, containers with name and image are expected"),
    "no pod template": ("  template:", "  tmpl:", f"{ALL}:4:1: Deployment tiny holds no pod template, containers with name and image are expected"),
    "no kind": ("kind: Service\n", "", f"{ALL}:13:1: kind is missing or no string, every object needs one"),
    "no apiVersion": ("apiVersion: v1\n", "", f"{ALL}:13:1: apiVersion is missing or no string, every object needs one"),
    "no name": ("metadata: {name: tiny}", "metadata: {}", f"{ALL}:15:1: metadata.name is missing or no string, every object needs one"),
    "a generated name": ("metadata: {name: tiny}", "metadata: {generateName: tiny-}", f"{ALL}:15:1: metadata.name is missing or no string, every object needs one"),
    "no object": ("---\n", "---\n- a\n---\n", f"{ALL}:13:1: no object, a mapping with apiVersion, kind and metadata.name is expected"),
    "a label of ours": ("labels: {app: tiny}}\nspec", "labels: {app: tiny, hotfire.dev/run: x}}\nspec", f"{ALL}:3:44: 'hotfire.dev/run' is hotfire's own, only a run may set it"),
    "a label of ours on the pods": ("    metadata: {labels: {app: tiny}}", "    metadata: {labels: {app: tiny}, annotations: {hotfire.dev/x: y}}", f"{ALL}:8:51: 'hotfire.dev/x' is hotfire's own, only a run may set it"),
    "a label of ours deep in another kind": ("---\n", "---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {metadata: {labels: {hotfire.dev/run: x}}}}}}\n---\n", f"{ALL}:16:60: 'hotfire.dev/run' is hotfire's own, only a run may set it"),
    "a label that is no string": ("labels: {app: tiny}}\nspec", "labels: {app: tiny, beta: yes}}\nspec", f"{ALL}:3:44: metadata.labels holds True, a string is expected, quote it"),
    "one identity twice": ("---\n", "---\napiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: tiny}\nspec: {template: {spec: {containers: [{name: a, image: i}]}}}\n---\n", f"{ALL}:13:1: Deployment tiny is there twice, first at {ALL}:1:1, one is allowed"),
    "a duplicate key": ("  replicas: 2\n", "  replicas: 2\n  replicas: 3\n", f"{ALL}:6:3: duplicate key 'replicas', first at 5:3, one of them is allowed"),
    "broken YAML": ("replicas: 2", "replicas: [2", f"{ALL}:6:11: not YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_is_refused_with_file_line_and_column(tmp_path: Path, name: str) -> None:
    old, new, said = BAD[name]
    assert old in MANIFESTS
    assert said in base.refusal(base.write(tmp_path, all=MANIFESTS.replace(old, new, 1)))


def test_two_files_may_not_hold_one_object(tmp_path: Path) -> None:
    said = base.refusal(base.write(tmp_path, a=MANIFESTS, b=MANIFESTS))
    assert said[0] == "manifests/b.yaml:1:1: Deployment tiny is there twice, first at manifests/a.yaml:1:1, one is allowed"


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    path = base.write(tmp_path, SCENARIO.replace("candidate:", "candidate:\n  manifests: nope/"))
    assert base.refusal(path) == ["scenario.yaml:6:14: nope does not exist, a folder of manifests is expected"]
    (tmp_path / "nope").mkdir()
    assert base.refusal(path) == ["scenario.yaml:6:14: nope holds no manifest, at least one *.yaml or *.yml is expected"]


@pytest.mark.parametrize(("file", "tool"), [("kustomization.yaml", "kubectl kustomize"), ("Chart.yaml", "helm template")])
def test_what_is_not_rendered_is_refused_with_the_tool_that_renders_it(tmp_path: Path, file: str, tool: str) -> None:
    path = base.write(tmp_path)
    (tmp_path / "manifests" / file).write_text("resources: []\n")
    assert base.refusal(path) == [
        f"manifests/{file}: not rendered, plain YAML is expected: {tool} manifests > OTHER_FOLDER/all.yaml"
    ]


def test_prerequisites_may_be_cluster_scoped_and_are_kept_apart(tmp_path: Path) -> None:
    needed = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
    located = load(base.write(tmp_path, all=MANIFESTS, prerequisites__ns=needed))
    assert [item["kind"] for item in located.prerequisites] == ["Namespace"]
    assert [item["kind"] for item in located.objects] == ["Deployment", "Service"]
    assert "namespace" not in located.prerequisites[0]["metadata"]  # type: ignore[operator]


def test_the_namespace_is_filled_in_and_places_are_kept(tmp_path: Path) -> None:
    located = load(base.write(tmp_path))
    assert {item["metadata"]["namespace"] for item in located.objects} == {"team"}  # type: ignore[index]
    assert located.sources == (f"{tmp_path}/manifests/all.yaml:1:1", f"{tmp_path}/manifests/all.yaml:13:1")


def test_a_list_is_its_items_each_with_its_place(tmp_path: Path) -> None:
    deployment, service = (document.replace("\n", "\n    ").strip() for document in MANIFESTS.split("---\n"))
    text = f"apiVersion: v1\nkind: List\nitems:\n  - {deployment}\n  - {service}\n"
    located = load(base.write(tmp_path, all=text))
    assert [source.rsplit(":", 2)[1:] for source in located.sources] == [["4", "5"], ["15", "5"]]


def test_manifests_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    values = "{mode: 0644, b: yes, at: 12:30:45, day: 2024-01-01, e: 1e3, n: ~, <<: {m: 1, b: no}}"
    config = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\nx: {values}\n"
    found = load(base.write(tmp_path, all=f"{MANIFESTS}---\n{config}")).objects[2]["x"]
    assert found == {"mode": 420, "b": True, "at": "12:30:45", "day": "2024-01-01", "e": 1000.0, "n": None, "m": 1}


def test_a_key_that_yaml_1_1_takes_for_a_boolean_is_refused(tmp_path: Path) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {on: x}\n"
    assert base.refusal(base.write(tmp_path, all=config)) == ["manifests/all.yaml:4:8: key on is not a string, quote it"]


def test_the_container_and_port_that_are_named_must_be_there(tmp_path: Path) -> None:
    path = base.write(tmp_path, SCENARIO.replace("model: tiny-1", "model: tiny-1, container: x, port: web"))
    assert base.refusal(path) == [
        "scenario.yaml:7:91: deployment/tiny has no container 'x', there is: tiny",
        "scenario.yaml:7:100: Service tiny has no port 'web', there is: 80",
    ]

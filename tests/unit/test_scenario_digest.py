"""What makes another candidate and what does not; and that what is generated from the types is current."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import hotfire.scenario.__main__ as command
from hotfire.scenario.digest import candidate_digest
from hotfire.scenario.images import with_images
from hotfire.scenario.loader import load
from hotfire.scenario.model import Scenario
from hotfire.scenario.reference import README, SCHEMA, reference, schema
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
REST = """---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {token: abc}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {tls: [{hosts: [a.example], secretName: t}], rules: [{host: a.example}]}
"""
MANIFESTS = base.MANIFESTS + REST
GOLDEN = '{"prompt": "a", "expect": "b"}\n'
SCENARIO = base.SCENARIO.replace("load: {", "behaviour: {golden: golden.jsonl}\nload: {", 1)


def digest(folder: Path, old: str = "", new: str = "", golden: str = GOLDEN) -> str:
    folder.mkdir()
    (folder / "golden.jsonl").write_text(golden)
    return candidate_digest(load(base.write(folder, SCENARIO.replace(old, new), all=MANIFESTS.replace(old, new))))


SAME = {
    "namespace": ("namespace: team", "namespace: prod"),
    "hosts": ("a.example", "b.example"),
    "replicas": ("replicas: 2", "replicas: 7"),
    "the value of a Secret": ("token: abc", "token: xyz"),
    "how a Secret's value is written": ("stringData: {token: abc}", "data: {token: YWJj}"),
    "a mirror of the registry": ("registry/tiny@", "mirror.example/other/tiny@"),
    "comments": ("apiVersion: apps/v1\n", "# a comment\napiVersion: apps/v1\n"),
    "expectations": ("< 2s", "< 1s"),
}
OTHER = {
    "image": ("sha256:0123", "sha256:0124"),
    "a label of the pods": ("{app: tiny}", "{app: tinier}"),
    "a key of a Secret": ("{token: abc}", "{tokn: abc}"),
    "a port": ("port: 80", "port: 81"),
    "model": ("tiny-1", "tiny-2"),
    "runtime": ("runtime: tiny", "runtime: vllm"),
    "API": ("model: tiny-1", "model: tiny-1, api: completions"),
}


@pytest.mark.parametrize("name", SAME)
def test_it_is_the_same_candidate(tmp_path: Path, name: str) -> None:
    old, new = SAME[name]
    assert old in SCENARIO + MANIFESTS
    assert digest(tmp_path / "a") == digest(tmp_path / "b", old, new)


@pytest.mark.parametrize("name", OTHER)
def test_it_is_another_candidate(tmp_path: Path, name: str) -> None:
    old, new = OTHER[name]
    assert old in SCENARIO + MANIFESTS
    assert digest(tmp_path / "a") != digest(tmp_path / "b", old, new)


def test_another_golden_set_is_another_candidate_but_not_other_blanks(tmp_path: Path) -> None:
    assert digest(tmp_path / "a") != digest(tmp_path / "b", golden=GOLDEN.replace('"b"', '"c"'))
    assert digest(tmp_path / "c") == digest(tmp_path / "d", golden=GOLDEN.replace(": ", ":   ") + "\n\n")


def test_the_order_of_files_does_not_make_another_candidate(tmp_path: Path) -> None:
    first, second = MANIFESTS.split("---\n", 1)
    for name, files in (("a", {"a": first, "b": second}), ("b", {"a": second, "b": first})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "golden.jsonl").write_text(GOLDEN)
        base.write(tmp_path / name, SCENARIO, **files)
    assert candidate_digest(load(tmp_path / "a")) == candidate_digest(load(tmp_path / "b"))


def test_images_are_set_on_a_copy_and_leave_the_scenario_as_it_was(tmp_path: Path) -> None:
    text = base.MANIFESTS.replace("registry/tiny@sha256:0123", "tiny")
    located = load(base.write(tmp_path, all=text))
    other = with_images(located, {"tiny": f"r/tiny@sha256:{'0' * 64}"})
    assert candidate_digest(located) != candidate_digest(other)
    assert "sha256" not in json.dumps(located.objects) and "sha256" in json.dumps(other.objects)


def test_schema_and_reference_are_what_the_types_say() -> None:
    assert (SCHEMA.read_text(), README.read_text()) == (schema(), reference())


def test_check_says_which_file_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SCHEMA", tmp_path / "schema.json")
    found = CliRunner().invoke(command.main, ["schema", "--check"])
    assert (found.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "schema.json: not what the models say" in found.output


def test_every_field_says_what_it_means() -> None:
    body = Scenario.model_json_schema()
    models = {"Scenario": body, **body["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, model in models.items()
        for key, field in model.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == []

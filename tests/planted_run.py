"""A planted suite, run by real pytest with the real plugin against the session's API server, and what it left behind.

Nothing schedules or runs a pod there, so no run can come to GO: the green suite shows that its decision would be CONFIRM.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from hotfire.check import CheckSpec, catalogue
from hotfire.journal.journal import Journal
from hotfire.journal.lease import holder_of
from hotfire.kube.client import Cluster, Ref
from hotfire.words import State
from tests.control_plane import ControlPlane

ROOT = Path(__file__).parents[1]
WORKLOAD = "deployment/tiny"
PLUGINS = ("hotfire.plugin", "allure_pytest.plugin", "pytest_timeout")
ROW = "startup.population"  # the check whose body a row replaces
SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: planted
about: a suite that was planted
candidate: {manifests: manifests/, serves: [{workload: deployment/tiny, service: tiny, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: simulated}
reach: {via: url, url: "http://127.0.0.1:1"}
rollback: {within: 20s, soak: 0s}
lock: {lease: 3s}
"""
MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: tiny}
spec: {selector: {app: tiny}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tiny}
spec:
  selector: {matchLabels: {app: tiny}}
  template:
    metadata: {labels: {app: tiny}}
    spec: {containers: [{name: server, image: "registry.example/tiny@sha256:%s"}]}
""" % ("a" * 64)
HEAD = '''"""Planted."""

import pytest

from hotfire.check import Evidence, check, saw
from hotfire.errors import Breach, HarnessError, Unjudged

'''


def planted_check(spec: CheckSpec, body: str = "", mark: str = "") -> str:
    """One check as source; green with its evidence where no body is given."""
    nouns = [noun for noun in (spec.needs.per, spec.needs.noun) if noun]
    body = body or "; ".join(f"saw({noun!r}, 1)" for noun in nouns)
    given = "service" if spec.per else "run" if "run." in body else ""
    name = spec.id.replace(".", "_").replace("-", "_")
    says = f"{spec.id!r}, needs=Evidence('thing'), per={spec.per!r}"  # what counts is the catalogue's evidence
    return f"{mark}\n@check({says})\ndef test_{name}({given}):\n    {body}\n\n"


def planted_suite(body: str = "", mark: str = "", row: str = ROW, when: str = "drilled") -> str:
    """Every check that SCENARIO asks for, in order, all green with their evidence but the row, which is the body's. when: what
    a scenario declares beyond it."""
    asked = [spec for spec in catalogue() if spec.when in ("", "drilled", when) and spec.per in ("", "candidate.serves")]
    rows = [planted_check(spec, *((body, mark) if spec.id == row else ())) for spec in asked]
    return HEAD + "\n".join(rows)


@dataclass(frozen=True)
class Ended:
    """A run that is over, as a pipeline sees it."""

    code: int
    output: str
    folder: Path | None

    @property
    def verdict(self) -> Mapping[str, Any]:
        assert self.folder is not None, self.output
        found: Mapping[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        return found

    @property
    def events(self) -> Sequence[Mapping[str, Any]]:
        assert self.folder is not None, self.output
        return [json.loads(line)["event"] for line in (self.folder / "record.jsonl").read_text().splitlines()]

    def check(self, key: str) -> Mapping[str, Any]:
        return next(one for one in self.verdict["checks"] if one["check"] == key)

    def reported(self, key: str) -> tuple[str, str]:
        """What JUnit and Allure say of a check."""
        assert self.folder is not None, self.output
        case = ElementTree.parse(self.folder / "junit.xml").find(f".//testcase[@name='{key}']")
        assert case is not None
        results = [json.loads(path.read_text()) for path in (self.folder / "allure-results").glob("*-result.json")]
        (status,) = [one["status"] for one in results if one["name"] == key]
        return next((child.tag for child in case), "passed"), status

    @property
    def decided(self) -> tuple[str, Sequence[str]]:
        """The decision, taken before settling, and why."""
        found = next(event for event in self.events if event["type"] == "decided")
        return found["decision"], found["because"]


@dataclass
class Ground:
    """An empty namespace, a folder with scenario and suite, and runs of them."""

    cluster: Cluster
    kubeconfig: Path
    namespace: str
    folder: Path

    def plant(self, suite: str, scenario: Mapping[str, Any] | None = None) -> None:
        (self.folder / "manifests").mkdir(parents=True, exist_ok=True)
        (self.folder / "suites").mkdir(exist_ok=True)
        (self.folder / "manifests" / "all.yaml").write_text(MANIFESTS)
        data = yaml.safe_load(SCENARIO.replace("NAMESPACE", self.namespace)) | dict(scenario or {})
        (self.folder / "scenario.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
        (self.folder / "suites" / "pytest.ini").write_text((ROOT / "suites" / "pytest.ini").read_text())
        (self.folder / "suites" / "test_10_planted.py").write_text(suite)

    def command(self, *options: str, python: Sequence[str] = (), scenario: bool = True) -> list[str]:
        suites = self.folder / "suites"
        words = [sys.executable, *python, "-m", "pytest", "-c", str(suites / "pytest.ini"), "--rootdir", str(suites), "-q"]
        words += [word for plugin in PLUGINS for word in ("-p", plugin)]
        if scenario:
            words += ["--hotfire-scenario", str(self.folder / "scenario.yaml")]
        where = ["--hotfire-kubeconfig", str(self.kubeconfig), "--hotfire-reports", str(self.folder / "reports")]
        return [*words, *where, *options, str(suites)]

    def run(self, *options: str, python: Sequence[str] = (), scenario: bool = True) -> Ended:
        command = self.command(*options, python=python, scenario=scenario)
        before = set(self.reports)
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, cwd=self.folder, env=self.environment
        )
        return Ended(ended.returncode, ended.stdout + ended.stderr, next(iter(set(self.reports) - before), None))

    def start(self) -> "subprocess.Popen[str]":
        """A run that goes on beside the test; it says what it does to the file `first`."""
        with (self.folder / "first").open("w") as out:
            return subprocess.Popen(
                self.command(), stdout=out, stderr=subprocess.STDOUT, text=True, cwd=self.folder, env=self.environment
            )

    @property
    def environment(self) -> dict[str, str]:
        """The test's own, without what it says of the test's own pytest."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    @property
    def reports(self) -> list[Path]:
        return sorted((self.folder / "reports").glob("*"))

    @property
    def journal(self) -> Journal | None:
        return Journal.read(self.cluster, self.namespace, WORKLOAD)

    @property
    def ended_well(self) -> bool:
        """The journal is a tombstone of a way back, nobody holds the Lease, and nothing of the manifests is there."""
        journal, holder = self.journal, holder_of(self.cluster, self.namespace, WORKLOAD)
        left = self.cluster.find(Ref("apps/v1", "Deployment", self.namespace, "tiny"))
        return journal is not None and journal.ended and journal.state is State.RESTORED and not holder and left is None

    @property
    def left(self) -> list[str]:
        """What a refused run must not leave: a journal, a held Lease, a folder."""
        journal = [self.journal.body.state] if self.journal else []
        holder = holder_of(self.cluster, self.namespace, WORKLOAD)
        return [*journal, *([holder] if holder else []), *map(str, self.reports)]


@pytest.fixture
def ground(control_plane: ControlPlane, tmp_path: Path) -> Ground:
    """A namespace of its own; nothing collects it, for there is no controller."""
    kubeconfig = control_plane.kubeconfig("admin")
    cluster, name = Cluster.connect(str(kubeconfig)), f"p-{uuid.uuid4().hex[:10]}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return Ground(cluster, kubeconfig, name, tmp_path)

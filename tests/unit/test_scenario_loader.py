"""Bad scenario files: each gets its line, its column, what is wrong and what is allowed; and a good one loads."""

# ruff: noqa: E501 - one row of the table is one line

from pathlib import Path

import pytest

from hotfire.errors import BadInput
from hotfire.scenario.loader import load
from hotfire.scenario.model import InjectedSecret, PullSecret

SCENARIO = """\
apiVersion: hotfire/v1
kind: Scenario
name: demo
about: A twin on the stand.
candidate:
  serves:
    - {workload: deployment/tiny, service: tiny, runtime: tiny, model: tiny-1}
stand: {namespace: team, accelerators: simulated}
startup: {ready_within: 60s, restarts: 0}
secrets:
  - {name: hf-token, key: token, as: env HF_TOKEN}
  - {pull: regcred}
load: {arrivals: spaced 1s, timeout: 20s}
slos:
  - {metric: e2e, p80: "< 2s"}
  - {metric: errors, ratio: "< 20%"}
faults:
  - {name: one-pod-gone, kill: one pod, serving_again_within: 90s}
"""
MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: tiny, labels: {app: tiny}}
spec:
  replicas: 2
  selector: {matchLabels: {app: tiny}}
  template:
    metadata: {labels: {app: tiny}}
    spec:
      containers:
        - {name: tiny, image: registry/tiny@sha256:0123}
---
apiVersion: v1
kind: Service
metadata: {name: tiny}
spec: {selector: {app: tiny}, ports: [{port: 80}]}
"""


def write(folder: Path, scenario: str = SCENARIO, **manifests: str) -> Path:
    """A scenario folder on disk; manifests: name -> text, all.yaml by default."""
    (folder / "manifests" / "prerequisites").mkdir(parents=True)
    (folder / "scenario.yaml").write_text(scenario)
    for name, text in (manifests or {"all": MANIFESTS}).items():
        (folder / "manifests" / f"{name.replace('__', '/')}.yaml").write_text(text)
    return folder / "scenario.yaml"


def refusal(path: Path, namespace: str | None = None) -> list[str]:
    """The lines of the refusal, with paths relative to the scenario's folder."""
    with pytest.raises(BadInput) as refused:
        load(path, namespace)
    return [line.replace(f"{path.parent}/", "") for line in refused.value.lines]


NAME = "a name of lower case letters, digits and - (at most 53) is expected"
UNIT = "is not a duration, a number with a unit is expected, such as 350ms, 30s, 2m, 1h"
BAD: dict[str, tuple[str, str, str]] = {
    "unknown key": ("slos:", "sloz:", "14:1: unknown key 'sloz', nearest allowed: slos"),
    "unknown key, nothing near": (
        "p80:", "xyzzy:",
        "15:19: unknown key 'xyzzy', allowed: confidence, gate, metric, p50, p80, p90, p95, p99, ratio, share, within",
    ),
    "unknown key in a secret": ("key: token,", "kee: token, key: token,", "11:22: unknown key 'kee', nearest allowed: key"),
    "key of the other kind of secret": ("{pull: regcred}", "{pull: regcred, as: env A}", "12:21: unknown key 'as', allowed: pull"),
    "missing key": ("service: tiny, ", "", "7:7: candidate.serves: key 'service' is missing (the Service in front of it, one of the manifests)"),
    "duplicate key": ("restarts: 0", "restarts: 0, restarts: 1", "9:43: duplicate key 'restarts', first at 9:30, one of them is allowed"),
    "duplicate block": ("kind: Scenario", "kind: Scenario\nkind: Scenario", "3:1: duplicate key 'kind', first at 2:1, one of them is allowed"),
    "bare number": ("60s", "60", f"9:25: startup.ready_within: 60 {UNIT}"),
    "bare decimal number": ("60s", "1.5", f"9:25: startup.ready_within: 1.5 {UNIT}"),
    "bare number for a share": (
        '"< 2s"}', '"< 2s", confidence: 95}',
        "15:44: slos.confidence: 95 is not a share, a number with a percent sign is expected, such as 0.5%",
    ),
    "bare number in a limit": ("< 2s", "< 2", "15:24: slos.p80: '< 2' is not understood, '< 350ms' or '< 0.5%' is expected"),
    "unit in the wrong order": ("60s", "30s2m", f"9:25: startup.ready_within: '30s2m' {UNIT}"),
    "share above all": ("< 20%", "< 120%", "16:29: slos.ratio: '120%' is above 100%"),
    "arrivals": ("spaced 1s", "spaced 1", "13:18: load.arrivals: 'spaced 1' is not understood, 'spaced 1s', 'poisson 8/s' or 'constant 30/m' (or gamma, ramp, steps, bursts, replay, closed) is expected"),
    "arrivals at rate zero": ("spaced 1s", "poisson 0/s", "13:18: load.arrivals: 'poisson 0/s' has no positive rate, 'spaced 1s', 'poisson 8/s' or 'constant 30/m' (or gamma, ramp, steps, bursts, replay, closed) is expected"),
    "unknown metric": ("metric: e2e", "metric: e2ee", "15:14: slos.metric: 'e2ee' is unknown, nearest allowed: e2e"),
    "no condition": (', p80: "< 2s"', "", "15:5: slos: 0 statistics, exactly one of p50 p80 p90 p95 p99 ratio share is expected"),
    "two conditions": ('p80: "< 2s"', 'p80: "< 2s", p95: "< 3s"', "15:5: slos: 2 statistics, exactly one of p50 p80 p90 p95 p99 ratio share is expected"),
    "share for a latency": ("< 2s", "< 2%", "15:5: slos: '< 2%': errors and goodput are limited by a share, a latency by a duration"),
    "goodput without limits": ('e2e, p80: "< 2s"', 'goodput, share: "> 95%"', "15:5: slos: goodput with 0 limits in within: goodput takes them, and nothing else does"),
    "limits of no goodput": ('p80: "< 2s"', 'p80: "< 2s", within: {ttft: "< 1s"}', "15:5: slos: e2e with 1 limits in within: goodput takes them, and nothing else does"),
    "goodput below a share": ('e2e, p80: "< 2s"', 'goodput, within: {ttft: "< 1s"}, share: "< 95%"', "15:54: slos.share: '< 95%' is not understood, '> 95%' is expected"),
    "percentile of errors": ("ratio", "p95", "16:5: slos: errors with p95: errors takes ratio, goodput share, every other metric a percentile"),
    "unknown runtime": ("runtime: tiny", "runtime: vlm", "7:59: candidate.serves.runtime: 'vlm' is unknown, nearest allowed: vllm"),
    "port-forward": ("startup:", "reach: {via: port-forward}\nstartup:", "9:14: reach.via: port-forward is refused for load, url, ingress, in-cluster or nodeport is expected"),
    "host without ingress": ("startup:", "reach: {host: x.example}\nstartup:", "9:8: reach: host is given only when via is ingress"),
    "certificates without TLS": ("startup:", "reach: {ca: ca.pem}\nstartup:", "9:8: reach: ca is given only with tls: true"),
    "url without via": ("startup:", "reach: {url: 'http://x'}\nstartup:", "9:8: reach: url is given exactly when via is url"),
    "a pod as workload": ("deployment/tiny", "pod/tiny", "7:18: candidate.serves.workload: 'pod/tiny' is not allowed, deployment/NAME or statefulset/NAME is expected"),
    "a bad name": ("name: demo", "name: Demo", f"3:7: name: 'Demo' is not allowed, {NAME}"),
    "a number as text": ("model: tiny-1", "model: 7", "7:72: candidate.serves.model: 7 is not allowed, a quoted string is expected"),
    "yes is a word": ("accelerators: simulated", "create: yes", "8:34: stand.create: 'yes' is not allowed, true or false is expected"),
    "half a restart": ("restarts: 0", "restarts: 0.5", "9:40: startup.restarts: 0.5 is not allowed, a whole number is expected"),
    "quoted number": ("restarts: 0", "restarts: '0'", "9:40: startup.restarts: '0' is not allowed, a whole number is expected"),
    "less than nothing": ("restarts: 0", "restarts: -1", "9:40: startup.restarts: -1 is not allowed, 0 or more is expected"),
    "secret without as": (", as: env HF_TOKEN", "", "11:5: secrets: key 'as' is missing (how the server gets it: `env NAME` or `file /path`)"),
    "secret as nothing known": ("env HF_TOKEN", "HF_TOKEN", "11:38: secrets.as: 'HF_TOKEN' is not allowed, 'env NAME' or 'file /path' is expected"),
    "a list where a mapping belongs": ("{pull: regcred}", "[regcred]", "12:5: secrets: a list is not allowed, a mapping is expected"),
    "a mapping where a list belongs": ("slos:\n", "slos: {}\nx-slos:\n", "14:7: slos: a mapping is not allowed, a list is expected"),
    "nothing where a mapping belongs": ("{ready_within: 60s, restarts: 0}", "", "9:9: startup: nothing is not allowed, a mapping is expected"),
    "no serves": ("  serves:\n    - {workload: deployment/tiny, service: tiny, runtime: tiny, model: tiny-1}", "  serves: []", "6:11: candidate.serves: an empty list is not allowed, at least one entry is expected"),
    "a fault of no family": ("kill: one pod, ", "", "18:5: faults: exactly one of kill, oom is expected"),
    "a fault of two families": ("kill: one pod,", "kill: one pod, oom: one container,", "18:5: faults: exactly one of kill, oom is expected"),
    "a fault's duration as errors": ("90s}", "90s, errors: '< 1s'}", "18:5: faults: errors: '< 1s', a share such as '< 1%' is expected"),
    "another format": ("hotfire/v1", "hotfire/v2", "1:13: apiVersion: 'hotfire/v2' is unknown, nearest allowed: hotfire/v1"),
    "another kind": ("kind: Scenario", "kind: Scenari", "2:7: kind: 'Scenari' is unknown, nearest allowed: Scenario"),
    "secrets_from alone": ("accelerators: simulated", "secrets_from: prod", "8:8: stand: secrets_from needs create: true"),
    "a number as key": ("startup:", "scheduling: {nodes: {1: a}}\nstartup:", "9:22: key 1 is not a string, quote it"),
    "an unquoted colon": ("A twin on", "A twin: on", "4:14: not YAML: mapping values are not allowed here (a value that holds `: ` needs quotes)"),
    "a tab": ("  serves:", "\tserves:", "6:1: not YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    "a second document": ("faults:", "---\nfaults:", "18:1: a second document, one scenario per file is allowed"),
    "a tag": ("tiny-1", "!!python/name:os.system x", "7:72: tag tag:yaml.org,2002:python/name:os.system is not allowed, plain YAML is expected"),
    "not a number": ("restarts: 0", "restarts: .nan", "9:40: .nan is no number that can be used, a finite one is expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_line_and_column(tmp_path: Path, name: str) -> None:
    old, new, said = BAD[name]
    assert old in SCENARIO
    assert f"scenario.yaml:{said}" in refusal(write(tmp_path, SCENARIO.replace(old, new, 1)))


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SCENARIO.replace("60s", "60").replace("metric: e2e", "metric: x").replace("kind: Scenario", "kind: S")
    assert [line.split(": ")[0] for line in refusal(write(tmp_path, text))] == [
        f"scenario.yaml:{at}" for at in ("2:7", "9:25", "15:14")
    ]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nope.yaml") == ["nope.yaml: not found, a scenario file is expected"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "scenario.yaml:1:1: an empty file, a scenario is expected"),
        (b"# nothing\n", "scenario.yaml:1:1: an empty file, a scenario is expected"),
        (b"kind: x\nname: \xff\n", "scenario.yaml:2:1: not UTF-8 text"),
        (b"- a\n", "scenario.yaml:1:1: the scenario: a list is not allowed, a mapping is expected"),
        (b"a: &a [*a]\n", "scenario.yaml:1:4: an alias that holds itself"),
    ],
)
def test_a_file_that_is_no_scenario_is_one_line(tmp_path: Path, raw: bytes, said: str) -> None:
    path = write(tmp_path)
    path.write_bytes(raw)
    assert said in refusal(path)


def test_an_alias_bomb_is_refused_and_not_expanded(tmp_path: Path) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert refusal(write(tmp_path, "l0: &l0 [x]\n" + levels))[-1].endswith("more than 100000 values by aliases")


def test_a_good_file_loads_with_every_quantity_in_si(tmp_path: Path) -> None:
    located = load(write(tmp_path))
    scenario = located.scenario
    assert (scenario.startup.ready_within, scenario.slos[0].limit.value, scenario.slos[1].limit.value) == (60.0, 2.0, 0.2)
    assert scenario.load is not None and scenario.load.arrivals.rate == 1.0
    assert [type(secret) for secret in scenario.secrets] == [InjectedSecret, PullSecret]
    assert [item["kind"] for item in located.objects] == ["Deployment", "Service"]


def test_a_folder_stands_for_its_scenario_file(tmp_path: Path) -> None:
    assert load(write(tmp_path).parent).path == tmp_path / "scenario.yaml"


def test_the_place_of_every_key_is_kept(tmp_path: Path) -> None:
    located = load(write(tmp_path))
    assert located.where("slos", 1, "ratio") == f"{located.path}:16:22"
    assert located.where("slos", 1, "gate") == f"{located.path}:16:5"  # a default: where it would stand
    assert located.says("load", "timeout") and not located.says("load", "seed")


def test_the_namespace_of_the_command_line_is_the_one_that_counts(tmp_path: Path) -> None:
    located = load(write(tmp_path), "other")
    assert located.scenario.stand.namespace == "other"
    assert {item["metadata"]["namespace"] for item in located.objects} == {"other"}  # type: ignore[index]
    with pytest.raises(BadInput, match="--namespace 'No': not a namespace name"):
        load(located.path, "No")


def test_words_of_yaml_1_1_stay_words(tmp_path: Path) -> None:
    traps = "scheduling: {nodes: {a: on, b: no, c: 12:30:45, d: '0777', e: y}}\nstartup:"
    scheduling = load(write(tmp_path, SCENARIO.replace("startup:", traps, 1))).scenario.scheduling
    assert scheduling is not None
    assert scheduling.nodes == {"a": "on", "b": "no", "c": "12:30:45", "d": "0777", "e": "y"}


def test_a_loaded_scenario_survives_its_own_dump(tmp_path: Path) -> None:
    scenario = load(write(tmp_path, SCENARIO.replace("spaced 1s", "poisson 8/s, for: 5m"))).scenario
    assert type(scenario).model_validate(scenario.model_dump()) == scenario

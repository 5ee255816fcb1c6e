"""Scenarios that load and must still be refused: vacuous gates, names given twice, files beside it that are broken."""

# ruff: noqa: E501 - one row of the table is one line

import json
from pathlib import Path

import pytest

from hotfire.errors import BadInput
from hotfire.runtimes import CONTRACTS
from hotfire.scenario.lint import EMBEDDING_RUNTIMES, lint
from hotfire.scenario.loader import load
from hotfire.scenario.ways import COUNTING_RUNTIMES
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
SCENARIO = base.SCENARIO
POISSON = "poisson 8/s"


def findings(folder: Path, text: str) -> list[str]:
    located = load(base.write(folder, text))
    return [line.replace(f"{folder}/", "") for line in lint(located)]


BAD: dict[str, tuple[str, str, str]] = {
    "load without slos": ('slos:\n  - {metric: e2e, p80: "< 2s"}\n  - {metric: errors, ratio: "< 20%"}\n', "", "13:1: load without slos decides nothing, at least one objective is expected"),
    "no objectives": ('slos:\n  - {metric: e2e, p80: "< 2s"}\n  - {metric: errors, ratio: "< 20%"}\n', "slos: []\n", "14:1: load without slos decides nothing, at least one objective is expected"),
    "slos without load": ("load: {arrivals: spaced 1s, timeout: 20s}\n", "", "13:1: slos without load have nothing to be judged on, load is expected"),
    "faults without load": ("load: {arrivals: spaced 1s, timeout: 20s}\n", "", "16:1: faults without load: no traffic would see the outage or its end, load is expected"),
    "all advisory": ('"< 2s"}\n  - {metric: errors, ratio: "< 20%"}', '"< 2s", gate: advisory}', "14:1: slos are all advisory: nothing decides, at least one `gate: required` is expected"),
    "two faults of one name": ("  - {name: one-pod", "  - {name: one-pod-gone, oom: one container, serving_again_within: 9s}\n  - {name: one-pod", "19:6: two faults are 'one-pod-gone', first at scenario.yaml:18:5, one is allowed"),
    "two objectives of one id": ('"< 2s"}', '"< 2s"}\n  - {metric: e2e, p80: "< 3s"}', "16:6: two slos are 'e2e-p80', first at scenario.yaml:15:5, one is allowed"),
    "one secret twice": ("  - {pull", "  - {name: hf-token, key: token, as: env B}\n  - {pull", "12:5: two secrets are 'hf-token/token', first at scenario.yaml:11:5, one is allowed"),
    "one workload twice": ("tiny-1}", "tiny-1}\n    - {workload: deployment/tiny, service: tiny, runtime: tiny, model: b}", "8:8: workload 'deployment/tiny' serves twice, first at scenario.yaml:7:8, one is allowed"),
    "every share is allowed": ("< 20%", "< 100%", "16:22: errors ratio < 100%: no input can fail it, a share below 100% is expected"),
    "nearly every share is allowed": ("< 20%", "< 99%", "16:22: errors ratio < 99%: no input can fail it with 84 requests at the last look, 528 are needed: `requests: 132` or more (8.8 min)"),
    "no share is allowed": ("< 20%", "< 0%", "16:22: errors ratio < 0%: no input can pass it, a limit above 0 is expected"),
    "no time is allowed": ("< 2s", "< 0s", "15:19: e2e p80 < 0s: no input can pass it, a limit above 0 is expected"),
    "limit at the timeout": ("< 2s", "< 20s", "15:19: e2e p80 < 20s: no answer can fail it, requests end at the timeout of 20s, a lower limit is expected"),
    "too few requests to pass": ("timeout: 20s", "timeout: 20s, requests: 5", "15:19: e2e p80 < 2s: no input can pass it with 20 requests at the last look, 21 are needed: `requests: 6` or more (21 s)"),
    "too short to pass": ("timeout: 20s", "timeout: 20s, for: 5s", "15:19: e2e p80 < 2s: no input can pass it with 20 requests at the last look, 21 are needed: `requests: 6` or more (21 s)"),
    "too few rated requests": ("spaced 1s", f"{POISSON}, requests: 100", "15:19: e2e p80 < 2s: no input can pass it with 400 requests at the last look, 2,000 are needed: `requests: 500` or more (4.17 min)"),
    "certainty": ('"< 2s"}', '"< 2s", confidence: 100%}', "15:32: confidence of 100%: no test has it, 50% to less than 100% is expected"),
    "less certain than a coin": ('"< 2s"}', '"< 2s", confidence: 1%}', "15:32: confidence of 1%: it proves nothing, 50% to less than 100% is expected"),
    "a time without a rate": ("spaced 1s", "closed 8, requests: 2000, warm_up: 30s", "13:44: warm_up of 30s under closed 8: it has no rate, a number of requests is expected"),
    "slots of one at a time": ("timeout: 20s", "timeout: 20s, slots: 50", "13:43: 50 slots under spaced 1s: one request at a time is sent, it is left out here"),
    "a silence below the limit": ('{metric: e2e, p80: "< 2s"}', '{metric: ttft, p80: "< 10s"}', "15:20: ttft p80 < 10s: with one request at a time stall.max of 5s fails what is slower than it, a lower limit or a higher stall.max is expected"),
    "settled before the first look": ("load: {", "rollback: {settle_by: 20s}\nload: {", "13:12: settle_by 20s: the load alone takes 24 s to its first look, more is expected"),
    "the age of no certificate": ("load: {", "certified_within: 1d\nload: {", "13:1: certified_within is for promote: nothing of it holds in certify, it is left out here"),
    "runs named twice": ("load: {", "compare: {runs: [a, b, a], margin: 10%}\nload: {", "13:24: a is named twice, runs of their own are expected"),
    "an address that is none": ("load: {", "reach: {via: url, url: 'http://[::1'}\nload: {", "13:19: 'http://[::1' is no address, https://HOST[:PORT] without a path is expected"),
    "a port that is none": ("load: {", "reach: {via: url, url: 'http://h:99999'}\nload: {", "13:19: 'http://h:99999' is no address, https://HOST[:PORT] without a path is expected"),
    "a host with a blank": ("load: {", "reach: {via: url, url: 'http://h h'}\nload: {", "13:19: 'http://h h' is no address, https://HOST[:PORT] without a path is expected"),
    "credentials in an address": ("load: {", "reach: {via: url, url: 'http://u:p@h:80'}\nload: {", "13:19: url holds credentials, which no request would carry: `auth: {secret: NAME/KEY}` is expected"),
    "a point estimate that decides": ('"< 2s"}', '"< 2s", confidence: none}', "15:32: e2e p80 < 2s: a point estimate proves nothing, `gate: advisory` or a confidence such as 95% is expected"),
    "a point estimate of one request": ( "timeout: 20s}\nslos:\n", 'timeout: 20s, requests: 21}\nslos:\n  - {metric: ttft, p99: "< 1s", confidence: none, gate: advisory}\n', "15:20: ttft p99 < 1s: 84 requests at most, an estimate of this share needs 100", ),
    "gaps of one token": ( "timeout: 20s}\nslos:\n  - {metric: e2e", "timeout: 20s, max_tokens: 1}\nslos:\n  - {metric: itl", "15:6: itl p80 < 2s: an answer of one token has no gap, load.max_tokens of 2 or more is expected", ),
    "requests and for": ("timeout: 20s", "timeout: 20s, requests: 21, for: 21s", "13:57: requests and for both say when the first look is, one of them is expected"),
    "certificates that are not there": ("load: {", "reach: {tls: true, ca: ca.pem}\nload: {", "13:20: ca.pem: No such file or directory, a PEM file of certificates is expected"),
    "processes of a spaced load": ("timeout: 20s", "timeout: 20s, processes: 2", "13:43: 2 processes under spaced 1s: requests wait for one another, 1 or an open loop is expected"),
    "workers without a cluster": ("spaced 1s, timeout: 20s", f"{POISSON}, timeout: 20s, workers: 2", "13:45: 2 workers of a load from here, `from: cluster` is expected"),
    "pods one by one from outside": ("timeout: 20s", "timeout: 20s, per_pod: true", "13:43: per_pod of a load from here: pods are reached from inside, `from: cluster` is expected"),
    "processes in the cluster": ("spaced 1s, timeout: 20s", f"{POISSON}, timeout: 20s, from: cluster, processes: 2", "13:60: 2 processes of a load from cluster, `from: here` is expected"),
    "a load from the cluster without its image": ("timeout: 20s", "timeout: 20s, from: cluster", "13:43: a load from the cluster needs its image, `stand: {load_image: …}` is expected"),
    "slots that close the loop": ("spaced 1s", f"{POISSON}, slots: 100", "13:31: 100 slots would close the open loop, 1.2 x 8/s x 20s timeout = 192 or more are expected"),
    "slots under the peak of a ramp": ("spaced 1s", "ramp 1/s to 10/s over 1m, slots: 200", "13:44: 200 slots would close the open loop, 1.2 x 10/s x 20s timeout = 240 or more are expected"),
    "slots under a burst": ("spaced 1s", "bursts 50 every 1m, slots: 40", "13:38: 40 slots would close the open loop, 1.2 x 2.5/s x 20s timeout = 60 or more are expected"),
    "slots under a closed loop": ("spaced 1s", "closed 8, requests: 2000, slots: 4", "13:44: 4 slots fail what closed 8 sends, 8 or more are expected"),
    "tokens said twice": ("timeout: 20s", "timeout: 20s, max_tokens: 8, answer_tokens: uniform 4 to 8", "13:43: max_tokens and answer_tokens both say how much is asked for, one of them is expected"),
    "a stall of nothing": ("load: {arrivals: spaced 1s, timeout: 20s}\n", "stall: {max: 4s}\n", "13:1: stall without load: nothing is in flight that could meet it, load is expected"),
    "a certificate for a certify": ("load: {", "certified: old.json\nload: {", "13:1: certified is for promote: nothing of it holds in certify, it is left out here"),
    "consent in a certify": ("load: {", "consent: [kill]\nload: {", "13:1: consent is for promote: nothing of it holds in certify, it is left out here"),
    "a cap where no users are": ("timeout: 20s", "timeout: 20s, live_cap: 30/m", "13:43: live_cap is for promote: nothing of it holds in certify, it is left out here"),
    "too seldom for a fault": ("spaced 1s", "spaced 20s", "18:41: a request every 20 s cannot tell when service is back within 90 s, 100 s or more is expected"),
    "cpu of no pod": ("timeout: 20s", "timeout: 20s, cpu: 500m", "13:43: cpu of a load from here: no pod carries it, `from: cluster` is expected"),
    "no time to settle": ("load: {", "rollback: {settle_by: 0s}\nload: {", "13:12: settle_by of 0s: nothing can be that fast, more than 0s is expected"),
    "a gate on bursts": ("spaced 1s", "bursts 20 every 2s", "15:6: e2e under bursts 20 every 2s: no bound holds for such arrivals, less clumped ones or `gate: advisory` are expected"),
    "a latency of a closed loop": ("spaced 1s", "closed 8, requests: 2000", "15:6: e2e under closed 8: a closed loop hides every stall, an open loop or `gate: advisory` is expected"),
    "a closed loop under faults": ("spaced 1s", "closed 8, requests: 2000", "17:1: faults under closed 8: it stops when the target does, an open loop is expected"),
    "a closed loop for a time": ("spaced 1s", "closed 8, for: 1m", "13:8: closed 8 has no rate: `requests` to the first look are expected"),
    "a replay of nothing": ("spaced 1s", "replay old.jsonl", "13:8: old.jsonl is not there, a JSONL file is expected"),
    "texts given twice": ("timeout: 20s", "timeout: 20s, prompts: p.jsonl, prompt_words: fixed 9", "13:61: prompts and prompt_words both say what is asked, one of them is expected"),
    "unique with a shared beginning": ("timeout: 20s", "timeout: 20s, unique: true, shared_prefix: {words: 9}", "13:43: unique prompts share no beginning, shared_prefix or unique is expected"),
    "largest gap of one token": ( "timeout: 20s}\nslos:\n  - {metric: e2e", "timeout: 20s, max_tokens: 1}\nslos:\n  - {metric: gap", "15:6: gap p80 < 2s: an answer of one token has no gap, load.max_tokens of 2 or more is expected", ),
    "gaps of drawn single tokens": ( "timeout: 20s}\nslos:\n  - {metric: e2e", "timeout: 20s, answer_tokens: fixed 1}\nslos:\n  - {metric: itl", "15:6: itl p80 < 2s: an answer of one token has no gap, load.max_tokens of 2 or more is expected", ),
    "goodput of everything": ('{metric: e2e, p80: "< 2s"}', '{metric: goodput, within: {ttft: "< 1s"}, share: "> 100%"}', "15:47: goodput share > 100%: no input can pass it, a share below 100% is expected"),
    "goodput of nothing": ('{metric: e2e, p80: "< 2s"}', '{metric: goodput, within: {ttft: "< 1s"}, share: "> 0%"}', "15:47: goodput share > 0%: no input can fail it, a share above 0% is expected"),
    "goodput in no time": ('{metric: e2e, p80: "< 2s"}', '{metric: goodput, within: {ttft: "< 0s"}, share: "> 80%"}', "15:23: goodput share > 80%: no input can pass it, a limit above 0 is expected"),
    "goodput at the timeout": ('{metric: e2e, p80: "< 2s"}', '{metric: goodput, within: {e2e: "< 20s"}, share: "> 80%"}', "15:23: e2e < 20s: no answer can fail it, requests end at the timeout of 20s, a lower limit is expected"),
    "compared with nothing": ("load: {", "compare: {runs: [a, b, c], margin: 10%}\nload: {", "13:18: a/verdict.json is not there, the verdict.json of a GO or none is expected"),
    "no margin": ("load: {", "compare: {runs: [a, b, c], margin: 0%}\nload: {", "13:28: margin of 0%: an equal candidate cannot pass it, more than 0% is expected"),
    "no percentile to compare": ('load: {arrivals: spaced 1s, timeout: 20s}\nslos:\n  - {metric: e2e, p80: "< 2s"}', 'compare: {runs: [a, b, c], margin: 10%}\nload: {arrivals: spaced 1s, timeout: 20s}\nslos:', "13:1: compare without a percentile in slos has nothing to compare, a latency objective is expected"),
    "a stall nothing can reach": ("load: {", "stall: {max: 20s}\nload: {", "13:9: no silence can fail it: requests end at the timeout of 20s, stall.max is 20s, less is expected"),
    "a timeout below the stall": ("timeout: 20s", "timeout: 4s", "13:29: no silence can fail it: requests end at the timeout of 4s, stall.max is 5s, less is expected"),
    "a fault that may fail everything": ("90s}", "90s, errors: '< 100%'}", "18:68: errors < 100%: no input can fail it, a share below 100% is expected"),
    "recovery in no time": ("90s}", "0s}", "18:41: serving_again_within of 0s: nothing can be that fast, more than 0s is expected"),
    "a lease of no whole seconds": ("load: {", "lock: {lease: 2500ms}\nload: {", "13:8: a lease of 2.5s, whole seconds from 3s are expected"),
    "promote without a word on certified": ("about:", "mode: promote\nabout:", "4:1: promote needs `certified: PATH/verdict.json`, or `certified: none`, which the certificate prints"),
    "promote on a verdict that is not there": ("about:", "mode: promote\ncertified: old/verdict.json\nabout:", "5:1: old/verdict.json is not there, the verdict.json of a GO or none is expected"),
    "promote that keeps": ("about:", "mode: promote\ncertified: none\nkeep: true\nabout:", "6:1: keep is for certify: promote ends exactly old or exactly new"),
    "promote into a new namespace": ("stand: {namespace: team", "mode: promote\ncertified: none\nstand: {create: true, namespace: team", "10:9: create is for certify: promote goes to the namespace that serves"),
    "a certify without its drill": ("load: {", "rollback: {drill: false}\nload: {", "13:12: every certify ends with the drill: it is left out here, drill is for promote"),
    "an address with a path": ("load: {", "reach: {via: url, url: 'http://h/v1'}\nload: {", "13:19: 'http://h/v1' is no address, https://HOST[:PORT] without a path is expected"),
    "plain text called TLS": ("load: {", "reach: {via: url, url: 'http://h', tls: true}\nload: {", "13:36: http://h does not go with tls: true"),
    "a certify by a pipeline": ("load: {", "rollout: {by: pipeline}\nload: {", "13:11: a pipeline deploys where something serves, `mode: promote` is expected, not certify"),
    "a rehearsal by a pipeline": ("load: {", "mode: promote\nusers: none\nrollout: {by: pipeline}\nrollback: {rehearse: true}\nload: {", "16:12: rehearse deploys the candidate once more: not with `rollout: {by: pipeline}`"),
    "no time to verify": ("load: {", "mode: promote\nusers: none\nrollout: {by: pipeline, deploy_by: 10m}\nrollback: {settle_by: 10m}\nload: {", "16:12: settle_by 600s is not after deploy_by 600s: nothing could be verified, more is expected"),
    "deploy_by of nobody": ("load: {", "rollout: {deploy_by: 10m}\nload: {", "13:11: deploy_by goes with `by: pipeline`: hotfire deploys at once"),
    "an owner of nobody": ("load: {", "rollout: {owner_in: argocd}\nload: {", "13:11: owner_in goes with `by: pipeline`: hotfire deploys at once"),
    "a sync of nobody": ("about:", "mode: promote\nusers: none\nconsent: [suspend-sync]\nabout:", "6:1: suspend-sync goes with `rollout: {by: pipeline}`: nobody else deploys"),
    "no taint": ("load: {", "scheduling: {tolerates: ['ai=x:Never']}\nload: {", "13:26: 'ai=x:Never' is no taint, KEY=VALUE:NoSchedule, :PreferNoSchedule or :NoExecute is expected"),
    "no device": ("load: {", "scheduling: {devices: {nvidia.com/gpu: 0}}\nload: {", "13:24: 0 of nvidia.com/gpu, 1 or more is expected"),
    "load to nobody": ("arrivals: spaced 1s,", "to: tinny, arrivals: spaced 1s,", "13:8: load.to: 'tinny' is no Service of candidate.serves, nearest allowed: tiny"),
    "a fault at nobody": ("kill: one pod,", "kill: one pod, at: other,", "18:41: faults.at: 'other' is no Service of candidate.serves, allowed: tiny"),
    "embeddings of an engine without": ("runtime: tiny, model: tiny-1", "runtime: tgi, api: embeddings, model: m", "7:64: tgi has no embedding API, one of llamacpp, ollama, tiny, vllm is expected"),
}  # fmt: skip


def test_one_load_goes_to_one_of_several_apis(tmp_path: Path) -> None:
    located = load(base.write(tmp_path, SCENARIO))
    other = located.scenario.candidate.serves[0].model_copy(update={"service": "other"})
    serves = (*located.scenario.candidate.serves, other)
    candidate = located.scenario.candidate.model_copy(update={"serves": serves})
    two = located.model_copy(update={"scenario": located.scenario.model_copy(update={"candidate": candidate})})
    assert [line.partition(": ")[2] for line in lint(two) if "`to:`" in line] == [
        "load: `to:` is missing, one of tiny, other is expected: one load goes to one API"
    ]
    assert (two.scenario.serving("other"), two.scenario.serving(None)) == (other, serves[0])


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_at_the_key_concerned(tmp_path: Path, name: str) -> None:
    old, new, said = BAD[name]
    assert old in SCENARIO
    assert f"scenario.yaml:{said}" in findings(tmp_path, SCENARIO.replace(old, new, 1))


GOOD = {
    "as it is": ("", ""),
    "rated": ("spaced 1s", POISSON),
    "rated with enough slots": ("spaced 1s", f"{POISSON}, slots: 192"),
    "gamma": ("spaced 1s", "gamma 8/s shape 0.5"),
    "ramp": ("spaced 1s", "ramp 1/s to 8/s over 1m30s"),
    "steps": ("spaced 1s", "steps 2/s 8/s each 30s, warm_up: 10s"),
    "made-up prompts": (
        "spaced 1s",
        "spaced 1s, prompt_words: lognormal 200 cv 0.5, answer_tokens: uniform 8 to 64, shared_prefix: {words: 50, groups: 4}",
    ),
    "promote without consent": ("about:", "mode: promote\ncertified: none\nabout:"),
    "promote where no users are": ("about:", "mode: promote\nusers: none\nabout:"),
    "by a pipeline": ("about:", "mode: promote\nusers: none\nrollout: {by: pipeline}\nabout:"),
    "by one that may be suspended": (
        "about:",
        "mode: promote\nusers: none\nconsent: [suspend-sync]\nrollout: {by: pipeline, owner_in: flux-system}\nabout:",
    ),
    "an advisory point estimate": ('"< 2s"}', '"< 2s"}\n  - {metric: ttft, p50: "< 1s", confidence: none, gate: advisory}'),
    "a taint without a value": ("load: {", "scheduling: {tolerates: ['gpu:NoSchedule']}\nload: {"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_sound_is_not_refused(tmp_path: Path, name: str) -> None:
    old, new = GOOD[name]
    assert old in SCENARIO and findings(tmp_path, SCENARIO.replace(old, new, 1)) == []


def test_all_findings_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SCENARIO.replace("90s", "0s").replace("< 2s", "< 20s").replace("restarts: 0", "restarts: 0, ready_within: 0s")
    found = findings(tmp_path, text.replace("ready_within: 60s, ", ""))
    assert [line.split(": ")[0].split(":", 1)[1] for line in found] == ["9:24", "15:19", "18:41"]


def test_a_workload_of_no_replicas_serves_nothing(tmp_path: Path) -> None:
    located = load(base.write(tmp_path, all=base.MANIFESTS.replace("replicas: 2", "replicas: 0")))
    said = f"{tmp_path}/manifests/all.yaml:1:1: Deployment tiny asks for 0 replicas and serves nothing, 1 or more is expected"
    assert lint(located) == [said]


@pytest.mark.parametrize(
    ("verdict", "fit"), [('{"verdict": "GO"}', True), ('{"verdict": "NO_GO"}', False), ("[]", False), ("{", False)]
)
def test_promote_rests_on_a_go_and_on_nothing_else(tmp_path: Path, verdict: str, fit: bool) -> None:
    (tmp_path / "v.json").write_text(verdict)
    assert (findings(tmp_path, SCENARIO.replace("about:", "mode: promote\ncertified: v.json\nabout:")) == []) is fit


FILES = {
    "not JSON": ("{oops}", "1:2: not JSON: Expecting property name enclosed in double quotes"),
    "cut": ('{"prompt": "a",', "1:16: not JSON: Expecting property name enclosed in double quotes"),
    "no object": ('["a"]', "1:1: no golden case, an object with prompt, expect is expected"),
    "nothing expected": ('{"prompt": "a", "expect": " "}', "1:17: expect is empty, a text is expected"),
    "no expectation": ('{"prompt": "a"}', "1:1: expect is missing, a text is expected"),
    "a number expected": ('{"prompt": "a", "expect": 4}', "1:17: expect is 4, a text is expected"),
    "unknown key": (
        '{"prompt": "a", "expect": "b", "expct": "c"}',
        "1:32: unknown key 'expct', allowed: prompt, expect, max_tokens",
    ),
    "a key twice": ('{"prompt": "a", "prompt": "b", "expect": "c"}', "1:1: duplicate key 'prompt', one of them is allowed"),
    "no tokens": (
        '{"prompt": "a", "expect": "b", "max_tokens": 0}',
        "1:32: max_tokens is 0, a whole number of 1 or more is expected",
    ),
    "true tokens": (
        '{"prompt": "a", "expect": "b", "max_tokens": true}',
        "1:32: max_tokens is True, a whole number of 1 or more is expected",
    ),
    "empty": ("", "1:1: empty, at least one golden case is expected"),
    "the second line": ('{"prompt": "a", "expect": "b"}\n\n{"prompt": ""}', "3:2: prompt is empty, a text is expected"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_golden_file_is_named_with_line_and_column(tmp_path: Path, name: str) -> None:
    raw, said = FILES[name]
    (tmp_path / "golden.jsonl").write_text(raw)
    assert f"golden.jsonl:{said}" in findings(
        tmp_path, SCENARIO.replace("load: {", "behaviour: {golden: golden.jsonl}\nload: {")
    )


def test_a_broken_prompts_file_is_named_with_line_and_column(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": "fine"}), json.dumps({"prompt": 7}), json.dumps({"prompt": "x", "expect": "y"})]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    assert findings(tmp_path, SCENARIO.replace("spaced 1s", "spaced 1s, prompts: p.jsonl")) == [
        "p.jsonl:2:2: prompt is 7, a text is expected",
        "p.jsonl:3:17: unknown key 'expect', allowed: prompt, max_tokens",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "\\ud800 a"}', "1:2: prompt holds half a character (a lone surrogate), a text is expected"),
        ("[" * 100_000, "1:1: not JSON: too deep"),
    ],
    ids=["half a character", "deep"],
)
def test_a_prompt_that_nobody_could_send_is_refused_beforehand(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "p.jsonl").write_text(line)
    assert findings(tmp_path, SCENARIO.replace("spaced 1s", "spaced 1s, prompts: p.jsonl")) == [f"p.jsonl:{said}"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('["warm", "due"]\n[0]', "2:1: 1 values, 2 are expected"),
        ('["due"]\n[5]', "1:1: no names of columns, `due` and `warm` among them are expected"),
        ('{"warm_up": "x"}\n{"due_us": 1}', "1:1: warm_up is 'x', a number of requests is expected"),
        ('{"due_us": 1' + "0" * 400 + "}", f"1:1: due at '1{'0' * 39}', microseconds are expected"),
        ('{"due_us": true}', "1:1: due at 'True', microseconds are expected"),
        ("[" * 100_000, "1:1: not JSON"),
    ],
    ids=["short row", "no warm", "warm-up of words", "never", "no number", "deep"],
)
def test_a_broken_replay_is_named_with_its_line(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "r.jsonl").write_text(lines)
    assert f"r.jsonl:{said}" in findings(tmp_path, SCENARIO.replace("spaced 1s", "replay r.jsonl"))


OWN, SOME = '{"prompt": "a", "max_tokens": 1}', '{"prompt": "a", "max_tokens": 50}\n{"prompt": "b"}'


@pytest.mark.parametrize(
    ("lines", "metric", "more", "said"),
    [
        (OWN, "gap", "", "gap p80 < 2s: an answer of one token has no gap, load.max_tokens of 2 or more is expected"),
        (
            OWN,
            "e2e",
            ", answer_tokens: fixed 64",
            "answer_tokens: every line of p.jsonl says its own max_tokens, it is left out here",
        ),
        (SOME, "gap", ", max_tokens: 1", None),
        (SOME, "gap", ", answer_tokens: fixed 64", None),
    ],
    ids=["of one token", "said by each", "long enough", "said by some"],
)
def test_how_long_answers_are_is_what_the_prompts_say(
    tmp_path: Path, lines: str, metric: str, more: str, said: str | None
) -> None:
    (tmp_path / "p.jsonl").write_text(lines)
    text = SCENARIO.replace("metric: e2e", f"metric: {metric}").replace("spaced 1s", f"spaced 1s, prompts: p.jsonl{more}")
    assert [line.split(": ", 1)[1] for line in findings(tmp_path, text)] == ([said] if said else [])


@pytest.mark.parametrize("slo", ['{metric: gap, p80: "< 2s"}', '{metric: goodput, within: {itl: "< 2s"}, share: "> 80%"}'])
def test_an_embedding_has_no_gaps(tmp_path: Path, slo: str) -> None:
    text = SCENARIO.replace("model: tiny-1", "model: tiny-1, api: embeddings").replace('{metric: e2e, p80: "< 2s"}', slo)
    (said,) = findings(tmp_path, text)
    assert said.endswith("< 2s: an embedding is no stream of tokens, e2e is expected")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "load: {",
            "compare: {runs: [a, b], margin: 10%}\nload: {",
            "compare.runs: a list is not allowed, a list of at least 3",
        ),
        ("spaced 1s", f"spaced 1s, requests: 1{'0' * 400}", "load.requests: 1"),
        (
            "spaced 1s",
            f"poisson 0.{'0' * 320}1/s",
            "is no load that a client carries, 0.000010/s to 100,000/s, 100,000 at once",
        ),
        ("spaced 1s", "poisson 1000000000/s", "is no load that a client carries"),
        ("spaced 1s", f"closed {'9' * 401}, requests: 9", "is no load that a client carries"),
        ("timeout: 20s", f"timeout: {'9' * 400}d", "is too long a time"),
        ("timeout: 20s", "timeout: 20s, warm_up: 1.5", "load.warm_up: 1.5 is not a duration"),
    ],
    ids=["two runs", "requests", "slow", "quick", "streams", "long", "bare"],
)
def test_what_no_load_can_be_is_refused_as_it_is_read(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput) as bad:
        load(base.write(tmp_path, SCENARIO.replace(old, new, 1)))
    assert any(said in line and line.startswith(f"{tmp_path}/scenario.yaml:13:") for line in bad.value.lines), bad.value.lines


def test_a_file_beside_it_that_is_not_there_is_named_at_its_key(tmp_path: Path) -> None:
    text = SCENARIO.replace("load: {", "behaviour: {golden: no.jsonl}\nload: {")
    assert findings(tmp_path, text) == ["scenario.yaml:13:13: no.jsonl is not there, a JSONL file is expected"]


BESIDE_USERS = {
    "a share of what nobody counts": (
        "runtime: tiny", "runtime: ollama", "ollama counts no requests, so 10% of what it serves is unknown, live_cap as a rate such as 2/s is expected",
    ),
    "more than the cap": ("timeout: 20s", "timeout: 20s, live_cap: 30/m", "spaced 1s is more than the 30/m of live_cap beside users"),
    "no rate": ("spaced 1s", "closed 8, requests: 2000", "closed 8 beside users has no rate that live_cap could hold, a spaced or open load is expected"),
    "a share of nothing": ("timeout: 20s", "timeout: 20s, live_cap: 0%", "live_cap of 0% lets no request through, more is expected"),
    "bursts over the cap": ("spaced 1s, timeout: 20s", "bursts 100 every 10s, timeout: 20s, live_cap: 20/s", "bursts 100 every 10s is more than the 20/s of live_cap beside users"),
    "a cap of nothing": ("timeout: 20s", "timeout: 20s, live_cap: 0/s", "live_cap: '0/s' is no rate above 0, '10%' or '2/s' is expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE_USERS)
def test_a_load_beside_users_is_held_to_a_cap(tmp_path: Path, name: str) -> None:
    old, new, said = BESIDE_USERS[name]
    text = SCENARIO.replace("about:", "mode: promote\ncertified: none\nconsent: [load]\nabout:").replace(old, new)
    try:
        found = findings(tmp_path, text)
    except BadInput as bad:
        found = list(bad.lines)
    assert any(said in line for line in found), found


@pytest.mark.parametrize(("consent", "held"), [("[load, kill]", True), ("[load]", False)])
def test_the_cap_holds_for_every_api_that_requests_of_the_run_go_to(tmp_path: Path, consent: str, held: bool) -> None:
    """Those under a fault go to the API that it hits."""
    text = SCENARIO.replace("about:", f"mode: promote\ncertified: none\nconsent: {consent}\nabout:")
    located = load(base.write(tmp_path, text.replace("timeout: 20s", "timeout: 20s, to: tiny")))
    asked = located.scenario
    other = asked.candidate.serves[0].model_copy(update={"service": "b", "runtime": "ollama"})
    candidate = asked.candidate.model_copy(update={"serves": (*asked.candidate.serves, other)})
    faults = (asked.faults[0].model_copy(update={"at": "b"}),)
    two = located.model_copy(update={"scenario": asked.model_copy(update={"candidate": candidate, "faults": faults})})
    assert any("ollama counts no requests" in line for line in lint(two)) == held


def test_where_no_users_are_no_cap_holds(tmp_path: Path) -> None:
    text = SCENARIO.replace("about:", "mode: promote\nusers: none\nabout:").replace(
        "timeout: 20s", "timeout: 20s, live_cap: 30/m"
    )
    assert findings(tmp_path, text) == []


def test_the_engines_that_count_requests_are_those_of_the_contracts() -> None:
    counting = (name for name, one in CONTRACTS.items() if one.counts and (one.counts.requests or one.counts.latency))
    assert tuple(sorted(counting)) == COUNTING_RUNTIMES


def test_the_engines_that_embed_are_those_of_the_contracts() -> None:
    assert tuple(sorted(name for name, contract in CONTRACTS.items() if contract.embeddings)) == EMBEDDING_RUNTIMES


def test_a_replay_has_the_rate_of_its_file_and_must_last_to_the_last_look(tmp_path: Path) -> None:
    dues = "".join(f'{{"due_us": {round(index * 125_000)}}}\n' for index in range(8_200))
    (tmp_path / "old.jsonl").write_text(dues)
    text = SCENARIO.replace("spaced 1s", "replay old.jsonl, requests: 2000")
    located = load(base.write(tmp_path, text))
    assert located.scenario.load is not None and located.scenario.load.arrivals.rate == pytest.approx(8.0)
    assert lint(located) == []
    said = "old.jsonl holds 8,200 arrivals, 9,225 are expected: warm-up and four times the first look"
    (tmp_path / "scenario.yaml").write_text(text.replace("2000", "2250"))
    assert [line.removeprefix(f"{tmp_path}/") for line in lint(load(tmp_path))] == [f"scenario.yaml:13:8: {said}"]


def test_a_replay_that_comes_in_clumps_is_no_ground_for_a_gate(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("".join(f'{{"due_us": {index // 20 * 2_500_000}}}\n' for index in range(9_000)))
    found = lint(load(base.write(tmp_path, SCENARIO.replace("spaced 1s", "replay old.jsonl, requests: 2000"))))
    assert found and all("no bound holds for such arrivals" in line for line in found)

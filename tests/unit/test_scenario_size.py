"""How much a scenario asks for, and what `plan` says of it: requests, seconds, what they can decide."""

from pathlib import Path

import pytest

from hotfire.rollout.rollout import settle_by_s
from hotfire.scenario.loader import load
from hotfire.scenario.plan import plan
from hotfire.scenario.size import first_look, most_s, warm_up
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
SCENARIO = base.SCENARIO
POISSON = "poisson 8/s"


@pytest.mark.parametrize(
    ("load_", "requests"),
    [
        ("spaced 1s", 21),
        (POISSON, 2000),
        (f"{POISSON}, for: 5m", 2400),
        ("spaced 2s, for: 1m", 30),
        ("spaced 1s, requests: 50", 50),
    ],
)
def test_the_first_look_is_as_written_or_the_fewest_that_could_pass(tmp_path: Path, load_: str, requests: int) -> None:
    assert first_look(load(base.write(tmp_path, SCENARIO.replace("spaced 1s", load_))).scenario) == requests


@pytest.mark.parametrize(
    ("load_", "slo", "seconds"),
    [
        (f"{POISSON}, warm_up: 2h", '{metric: e2e, p80: "< 2s"}', 7200 + 1000),
        ("closed 8, requests: 500", '{metric: errors, ratio: "< 10%"}', 2000 * 20 / 8),
        ("spaced 10ms", '{metric: e2e, p99: "< 5s"}', 1800 * 5),
        ("spaced 1s", '{metric: e2e, p50: "< 2s"}', 48 * (2 + 20) / 2),
        ("spaced 1s", '{metric: goodput, within: {e2e: "< 2s"}, share: "> 50%"}', 48 * (2 + 20) / 2),
    ],
    ids=["a long warm-up", "closed", "answers that are waited for", "a median", "goodput"],
)
def test_the_watchdog_waits_as_long_as_the_objectives_let_a_load_last(
    tmp_path: Path, load_: str, slo: str, seconds: float
) -> None:
    text = SCENARIO.replace("spaced 1s", load_).replace('{metric: e2e, p80: "< 2s"}', slo).partition("faults:")[0]
    scenario = load(base.write(tmp_path, text)).scenario
    assert seconds < most_s(scenario) < settle_by_s(scenario)


def test_plan_says_what_a_spaced_profile_can_decide(tmp_path: Path) -> None:
    assert plan(load(base.write(tmp_path))) == [
        "load: spaced 1s, looks at 21, 32, 42, 63, 84 requests: 21 s to 84 s",
        "      spaced: one request at a time, this measures unloaded latency",
        "      burn guard: at any request it may end at once, only to fail an objective beyond doubt",
        "      3 windows of 7 requests and more: to pass, an objective needs its bound on all of them and no more bad in any "
        "than allowed",
        "  e2e p80 < 2s (required, 95%): can pass from 21 requests (21 s), fail from 4; with two bad passes from 39",
        "  errors ratio < 20% (required, 95%): can pass from 21 requests (21 s), fail from 4; with two bad passes from 39",
        "fault one-pod-gone: kill, serving again within 90 s, judged on 100 requests after it",
        "way back: within 3 min, watched for 10 s after",
        "drill it before the end: back, and there once more",
        "at most about 24.3 min to a GO, with every bound used up",
    ]


def test_plan_says_what_a_rated_profile_needs_and_what_is_not_permitted(tmp_path: Path) -> None:
    text = (
        SCENARIO.replace("spaced 1s", POISSON).replace("p80", "p95").replace("about:", "mode: promote\ncertified: none\nabout:")
    )
    lines = plan(load(base.write(tmp_path, text)))
    needs = "a sound candidate at 0.7 of capacity with 1.5x headroom needs 5,000 (10.4 min) to 50,000 (104 min)"
    assert lines[1] == "      warm-up: 200 requests (25 s) are sent and not counted; 238 slots"
    assert lines[2] == "      burn guard: from 100 requests it may end at once, only to fail an objective beyond doubt"
    assert lines[3] == f"  e2e p95 < 2s (required, 95%): can pass from 2,000 requests (4.17 min), fail from 100; {needs}"
    again = "serving again within 90 s, judged on 100 requests after it"
    assert f"fault one-pod-gone: kill, {again}, NOT_RUN: promote without consent: [kill]" in lines
    assert "load: NOT_RUN: promote without consent: [load]" in lines


@pytest.mark.parametrize(
    ("load_", "requests"),
    [
        ("spaced 1s", 3),
        (POISSON, 200),
        (f"{POISSON}, requests: 600", 100),
        (f"{POISSON}, warm_up: 30s", 240),
        ("ramp 2/s to 8/s over 10s, warm_up: 5", 55),
        ("steps 2/s 4/s 8/s each 10s, warm_up: 1s", 68),
        ("closed 4, requests: 2000", 3),
    ],
)
def test_what_is_not_counted_is_fixed_beforehand(tmp_path: Path, load_: str, requests: int) -> None:
    assert warm_up(load(base.write(tmp_path, SCENARIO.replace("spaced 1s", load_))).scenario) == requests


def test_plan_says_what_the_candidate_is_compared_with(tmp_path: Path) -> None:
    text = SCENARIO.replace("load: {", "compare: {runs: [a, b, c], margin: 10%}\nload: {")
    assert "  each percentile: at most 10% slower than 3 earlier runs, their noise allowed for" in plan(
        load(base.write(tmp_path, text))
    )


def test_plan_says_which_commands_a_pipeline_needs(tmp_path: Path) -> None:
    by_pipeline = SCENARIO.replace("about:", "mode: promote\nusers: none\nrollout: {by: pipeline, deploy_by: 90s}\nabout:")
    first = plan(load(base.write(tmp_path, by_pipeline)))[0]
    assert (
        first == "rollout: by a pipeline: `hotfire arm`, its own deploy within 90 s, `hotfire verify RUN`, `hotfire settle RUN`"
    )


def test_plan_says_what_is_warm_up_and_what_a_cache_can_do(tmp_path: Path) -> None:
    text = SCENARIO.replace(
        "spaced 1s", "ramp 1/s to 9/s over 10s, prompt_words: fixed 80, shared_prefix: {words: 50, groups: 4}"
    )
    lines = plan(load(base.write(tmp_path, text)))
    assert lines[1] == (
        "      warm-up: 250 requests (32.2 s) are sent and not counted, 50 of them before the last level; 216 slots"
    )
    assert lines[4] == "      made-up prompts of fixed 80 words; 4 beginnings of 50 words shared: a prefix cache can hit"

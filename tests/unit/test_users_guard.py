"""Users' requests by counters: read so that nothing is called bad that may be good, and burnt only beyond doubt."""

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hotfire.check import catalogue, plan
from hotfire.gates import guard
from hotfire.gates.users import LONG, Burn, burnt, laid, unproven
from hotfire.plugin.users import EVERY_S, Guarded
from hotfire.rollout.rights import rights
from hotfire.runtimes import CONTRACTS, contract_of
from hotfire.runtimes.counters import Counts, Series
from hotfire.runtimes.gateways import counts
from hotfire.runtimes.guarded import guards, uncounted
from hotfire.scenario.model import Located, Scenario
from hotfire.scenario.serves import Gateway
from hotfire.words import Reason

VLLM = """# TYPE http_requests_total counter
http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 90.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"} 7.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="5xx"} 3.0
http_requests_total{handler="/health",method="GET",status="2xx"} 5000.0
vllm:time_to_first_token_seconds_bucket{le="0.25",model_name="m"} 60.0
vllm:time_to_first_token_seconds_bucket{le="0.5",model_name="m"} 80.0
vllm:time_to_first_token_seconds_bucket{le="1.0",model_name="m"} 85.0
vllm:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 90.0
vllm:time_to_first_token_seconds_count{model_name="m"} 90.0
"""
TGI = """tgi_request_count 40
tgi_request_failure{err="validation"} 5
tgi_request_failure{err="dropped"} 4
tgi_request_failure{err="generation"} 3
tgi_request_duration_bucket{le="1"} 20
tgi_request_duration_bucket{le="+Inf"} 28
"""
PART = {"slo": "errors-ratio", "kind": "errors", "limit_s": 0.0, "allowed": 0.05, "alpha": 0.01}


def read(runtime: str, text: str, kind: str, limit: float = 0.0) -> tuple[float, float] | None:
    counts = contract_of(runtime).counts
    assert counts is not None
    return counts.read(text, kind, limit)


def test_health_probes_are_no_requests_and_a_clients_mistake_is_no_failure() -> None:
    assert read("vllm", VLLM, "errors") == (100, 3)
    assert read("tgi", TGI, "errors") == (40, 3)


@pytest.mark.parametrize(("limit", "late"), [(0.25, 30), (0.3, 10), (0.5, 10), (0.7, 5), (1.0, 5), (1.1, 0), (90.0, 0)])
def test_late_is_only_what_lies_above_a_bound_that_is_not_below_the_limit(limit: float, late: float) -> None:
    assert read("vllm", VLLM, "ttft", limit) == (90, late)


def test_what_is_not_told_is_not_zero() -> None:
    assert read("vllm", "", "errors") is None and read("vllm", TGI, "ttft", 1.0) is None
    assert read("vllm", VLLM, "e2e", 1.0) is None
    assert Counts(latency={"e2e": Series("x")}).read('x_bucket 5\nx_bucket{le="worst"} 1\n', "e2e", 1.0) is None


def test_what_a_server_has_served_is_counted_whatever_became_of_it() -> None:
    vllm, trtllm = contract_of("vllm").counts, contract_of("trtllm").counts
    assert vllm is not None and vllm.served(VLLM) == 100 and vllm.served("") is None
    assert trtllm is not None and trtllm.served('trtllm_time_to_first_token_seconds_bucket{le="+Inf"} 12\n') == 12


def test_a_counter_without_its_first_failure_says_none() -> None:
    counts = Counts(Series("n", {"path": "/v1"}), Series("n", {"path": "/v1", "status": "5.."}))
    assert counts.read('n_total{path="/v1",status="200"} 4\nn{path="/v1",status="503"} NaN\n', "errors", 0.0) == (4, 0)


GATEWAYS = {
    "haproxy": (
        "llm_llama_80",
        'haproxy_backend_http_requests_total{proxy="llm_llama_80"} 50\nhaproxy_backend_http_requests_total{proxy="other"} 9\n'
        'haproxy_backend_http_responses_total{proxy="llm_llama_80",code="2xx"} 44\n'
        'haproxy_backend_http_responses_total{proxy="llm_llama_80",code="5xx"} 6\n'
        'haproxy_backend_http_responses_total{proxy="other",code="5xx"} 7\n',
    ),
    "envoy": (
        "llm/llama",
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="llm/llama"} 44\n'
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="llm/llama"} 6\n'
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="other"} 6\n',
    ),
    "ingress-nginx": (
        "llm/llama",
        'nginx_ingress_controller_requests{namespace="llm",service="llama",status="200"} 44\n'
        'nginx_ingress_controller_requests{namespace="llm",service="llama",status="503"} 6\n'
        'nginx_ingress_controller_requests{namespace="two",service="llama",status="503"} 5\n'
        'nginx_ingress_controller_request_duration_seconds_bucket{namespace="llm",service="llama",le="1"} 40\n'
        'nginx_ingress_controller_request_duration_seconds_bucket{namespace="two",service="llama",le="1"} 0\n'
        'nginx_ingress_controller_request_duration_seconds_bucket{namespace="llm",service="llama",le="+Inf"} 50\n'
        'nginx_ingress_controller_request_duration_seconds_bucket{namespace="two",service="llama",le="+Inf"} 8\n',
    ),
    "traefik": (
        "llm-llama-80@kubernetes",
        'traefik_service_requests_total{code="200",service="llm-llama-80@kubernetes"} 44\n'
        'traefik_service_requests_total{code="502",service="llm-llama-80@kubernetes"} 6\n'
        'traefik_service_request_duration_seconds_bucket{code="200",service="llm-llama-80@kubernetes",le="1.2"} 40\n'
        'traefik_service_request_duration_seconds_bucket{code="200",service="llm-llama-80@kubernetes",le="+Inf"} 50\n'
        'traefik_service_request_duration_seconds_bucket{code="200",service="llmxllama-80@kubernetes",le="+Inf"} 50\n',
    ),
}


@pytest.mark.parametrize("kind", GATEWAYS)
def test_a_gateway_counts_what_it_leads_to_this_backend_alone(kind: str) -> None:
    backend, page = GATEWAYS[kind]
    gateway = {"kind": kind, "backend": backend, "namespace": "edge", "pods": "app=gateway", "metrics": "9113/metrics"}
    found = counts(Gateway.model_validate(gateway))
    assert found.read(page, "errors", 0.0) == (50, 6) and found.served(page) == 50
    assert found.tells("e2e") == ("duration" in page) and not found.tells("ttft")
    assert not found.tells("e2e") or found.read(page, "e2e", 1.0) == (50, 10)


def test_where_the_engine_counts_nothing_the_gateway_is_asked() -> None:
    gateway = {"kind": "haproxy", "backend": "b", "namespace": "edge", "pods": "app=gateway", "metrics": "8404/metrics"}
    asked = scenario("ollama", ERRORS, E2E, counted_by=gateway)
    assert [part["kind"] for part in guards(asked.guarded[0], asked)] == ["errors", "errors"]
    found = {right.namespace for right in rights(Located(scenario=asked, path=Path(), objects=(), digest=""))}
    assert found == {"", "edge"}


def scenario(runtime: str, *slos: dict[str, str], counted_by: object = None, **more: object) -> Scenario:
    serves = {"workload": "deployment/a", "service": "a", "runtime": runtime, "model": "m", "counted_by": counted_by}
    base = {"apiVersion": "hotfire/v1", "kind": "Scenario", "name": "a", "about": "a", "stand": {"namespace": "n"}}
    return Scenario.model_validate({**base, "candidate": {"serves": [serves]}, "slos": slos, "mode": "promote", **more})


ERRORS, TTFT, E2E = ({"metric": "errors", "ratio": "< 1%"}, {"metric": "ttft", "p95": "< 1s"}, {"metric": "e2e", "p80": "< 2s"})


def kinds(runtime: str, *slos: dict[str, str]) -> list[tuple[str, str]]:
    asked = scenario(runtime, *slos)
    return [(part["slo"], part["kind"]) for part in guards(asked.guarded[0], asked)]


def test_each_objective_is_held_against_what_its_runtime_counts() -> None:
    assert kinds("vllm", ERRORS, TTFT) == [("errors-ratio", "errors"), ("ttft-p95", "errors"), ("ttft-p95", "ttft")]
    assert kinds("tgi", TTFT, E2E) == [("ttft-p95", "errors"), ("e2e-p80", "errors"), ("e2e-p80", "e2e")]
    assert kinds("trtllm", ERRORS, E2E) == [("e2e-p80", "e2e")]
    assert kinds("ollama", ERRORS, E2E) == kinds("llamacpp", ERRORS) == kinds("vllm", {**ERRORS, "gate": "advisory"}) == []


@pytest.mark.parametrize(
    ("runtime", "more", "reason"),
    [
        ("vllm", {}, None),
        ("ollama", {}, Reason.NOT_COUNTED),
        ("vllm", {"users": "none"}, Reason.NOT_ASKED),
        ("vllm", {"mode": "certify"}, Reason.NOT_ASKED),
    ],
)
def test_users_are_guarded_where_they_are_served_and_counted(runtime: str, more: dict[str, object], reason: object) -> None:
    (planned,) = [one for one in plan(catalogue(), scenario(runtime, ERRORS, **more)) if one.id == "rollout.users"]
    assert (planned.asked, planned.reason) == (reason is None, reason)


def test_the_pods_own_counters_may_be_read_where_users_are_guarded() -> None:
    asked = {
        more: Located(scenario=scenario("vllm", ERRORS, users=more), path=Path(), objects=(), digest="")
        for more in ("live", "none")
    }
    assert {more: "get pods/proxy" in map(str, rights(one)) for more, one in asked.items()} == {"live": True, "none": False}


def test_every_runtime_that_counts_failures_says_of_what() -> None:
    counting = {name: contract.counts for name, contract in CONTRACTS.items() if contract.counts}
    assert set(counting) == {"vllm", "tgi", "trtllm", "tiny"}
    assert all((counts.requests is None) == (counts.failed is None) for counts in counting.values())


# -- the rule


def at(intervals: list[tuple[int, int]], p0: float = 0.05, kind: str = "errors") -> int | None:
    burn = Burn(p0, 0.01, kind)
    return next((i for i, (requests, bad) in enumerate(intervals) if burn.add(requests, bad, EVERY_S)), None)


def timed(*parts: tuple[int, tuple[int, int, int]]) -> list[tuple[float, ...]]:
    """So many of each (counts, requests, bad), as a Counted event holds them."""
    rows = [row for times, row in parts for _ in range(times)]
    return [(EVERY_S * i, *row) for i, row in enumerate(rows)]


def test_the_bad_ones_of_an_interval_lie_side_by_side() -> None:
    assert laid([(3, 1), (0, 0), (2, 2)]).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("kind", ["errors", "e2e"])
def test_a_service_that_is_only_bad_burns_with_the_hundredth_request(kind: str) -> None:
    assert at([(20, 20)] * 9, kind=kind) == 4 and at([(1, 1)] * 200, kind=kind) == 99


def test_one_hitch_is_no_end_however_many_met_it() -> None:
    assert at([(9000, 9000)] * 4) is None and at([(9000, 9000)] * 5) == 4
    quiet = [(0.0, 1, 0, 0), (90.0, 1, 0, 0)]
    assert burnt([PART], [*quiet, (90.75, 1, 900, 900), (180.0, 1, 0, 0), (181.0, 1, 900, 900)]) is None


@pytest.mark.parametrize(
    "before", [[(13, 0)] * 2000, [(20, 0)] * 2000, [(1, 0)] * 5, [(13, 1)] * 300], ids=["long", "longer", "few", "some bad"]
)
def test_a_hitch_within_one_reading_is_no_end_whatever_came_before(before: list[tuple[int, int]]) -> None:
    assert at([*before, (500, 500)]) is None and at([*before, (9000, 9000)]) is None


@pytest.mark.parametrize("p0", [0.5, 0.6, 0.9])
def test_also_where_half_of_them_may_be_bad_all_of_them_may_not(p0: float) -> None:
    """A median, or goodput of 40 %: twice the allowed share is more than there can be."""
    part = {**PART, "allowed": p0, "kind": "e2e"}
    for share in (1.0, 0.97):
        rows = timed((400, (1, 50, round(50 * share))))
        assert burnt([part], rows) is not None, share
    assert burnt([part], timed((400, (1, 50, round(50 * p0))))) is None
    most = timed((15, (1, 20, math.ceil(20 * (1 + p0) / 2))))
    assert (unproven([part], most, 0) or (None,))[0] is Reason.UNDECIDED
    assert unproven([part], timed((15, (1, 20, round(20 * p0)))), 0) is None


def test_a_long_interval_that_is_only_bad_is_no_hitch() -> None:
    """By a pipeline what came between `verify` and `settle` is one."""
    before = [(0.0, 1, 0, 0), (0.75, 1, 200, 0)]
    assert burnt([PART], [*before, (4.75, 1, 2000, 2000)]) == (
        2,
        "users' requests burn errors-ratio: 2,000 of 2,200 failed, 5 % may be bad",
    )
    assert burnt([PART], [*before, (2.75, 1, 2000, 2000)]) is None and burnt([PART], [*before, (4.75, 1, 2000, 900)]) is None


def test_failures_counted_after_their_requests_are_requests_too() -> None:
    assert at([(50, 0)] + [(0, 20)] * 30) == 18
    burn = Burn(0.05, 0.01, "errors")
    assert not burn.add(0, 3, EVERY_S) and (burn.requests, burn.bad) == (3, 3)


def test_half_of_it_bad_waits_until_it_cannot_be_one_burst() -> None:
    found = at([(20, 10)] * 100)
    assert found is not None and guard.EARLY <= 20 * (found + 1) < 1_200 and at([(20, 10)] * 100, kind="ttft") == found


@pytest.mark.parametrize("seed", range(4))
def test_a_share_within_the_objective_never_burns(seed: int) -> None:
    bad = np.random.default_rng(seed).binomial(20, 0.04, 600)
    assert at([(20, int(k)) for k in bad]) is None


def test_one_outage_that_is_over_does_not_burn() -> None:
    assert at([(20, 0)] * 100 + [(20, 20)] * 3 + [(20, 0)] * 200) is None


def test_a_service_that_fails_late_burns_with_its_newest_requests() -> None:
    assert at([(20, 0)] * 150 + [(20, 20)] * 100) == 150 + guard.EARLY * guard.NEARLY_ALL / 20 - 1
    assert at([(20, 0)] * 9000 + [(20, 20)] * 100) == 9000 + guard.EARLY * guard.NEARLY_ALL / 20 - 1


def test_a_service_that_turns_slow_late_burns_once_no_queue_explains_it() -> None:
    assert at([(20, 0)] * 150 + [(20, 20)] * 900, kind="e2e") == 150 + LONG * guard.NEARLY_ALL / 20 - 1
    assert at([(20, 0)] * 150 + [(20, 20)] * 100 + [(20, 0)] * 900, kind="e2e") is None


def test_what_a_fault_did_is_set_aside_and_what_came_after_is_not() -> None:
    outage = (20, (0, 50, 50))
    assert burnt([PART], timed(outage)) is None
    said = burnt([PART], timed(outage, (9, (1, 50, 50))))
    assert said == (24, "users' requests burn errors-ratio: 250 of 250 failed, 5 % may be bad")


@pytest.mark.parametrize(
    ("intervals", "ours", "reason", "says"),
    [
        (timed((9, (1, 20, 0))), 80, None, ""),
        (timed((9, (1, 20, 0))), 81, Reason.INSUFFICIENT, "99 requests of users were counted, 100 are needed"),
        (timed((4, (1, 20, 20))), 0, Reason.INSUFFICIENT, "80 requests"),
        (timed((90, (0, 20, 0))), 0, Reason.EMPTY, "0 requests"),
        (
            timed((15, (1, 20, 13))),
            0,
            Reason.UNDECIDED,
            "speak against errors-ratio: 195 of 300 failed, 5 % may be bad; whether",
        ),
        (timed((9, (0, 20, 20)), (15, (1, 20, 1))), 0, None, ""),
        (timed((15, (1, 20, 2))), 0, Reason.UNDECIDED, "30 of 300"),
        (timed((14, (1, 20, 2)), (1, (1, 20, 1))), 0, None, ""),
    ],
    ids=["enough", "hotfire's own", "few, all bad", "under a fault", "two thirds", "a fault's", "twice", "less than twice"],
)
def test_that_nothing_burnt_is_no_proof_of_little_or_against_what_was_seen(
    intervals: list[tuple[float, ...]], ours: int, reason: Reason | None, says: str
) -> None:
    """None of these burns; only some of them speak for the candidate."""
    assert burnt([PART], intervals) is None
    found = unproven([PART], intervals, ours)
    assert (found and found[0]) == reason and says in (found[1] if found else "")


def test_a_histogram_that_ends_below_the_limit_cannot_tell_what_is_late() -> None:
    backend, page = GATEWAYS["traefik"]
    found = counts(Gateway(kind="traefik", backend=backend, namespace="edge", pods="app=gateway", metrics="9113/metrics"))
    assert found.blind(page, "e2e", 1.2) == "" and found.blind(page, "e2e", 2.0) == "its histogram ends at 1.2 s"
    assert found.blind(page, "errors", 0.0) == "" and found.read(page, "e2e", 2.0) == (50, 0)


def test_what_nobody_counts_of_the_objectives_is_named() -> None:
    assert uncounted((asked := scenario("trtllm", ERRORS, E2E)).guarded[0], asked) == [
        "errors of errors-ratio",
        "errors of e2e-p80",
    ]
    assert uncounted((asked := scenario("vllm", ERRORS, TTFT)).guarded[0], asked) == []


def test_of_quiet_readings_the_last_is_kept_since_the_next_interval_begins_there() -> None:
    """12 requests, none for two readings, 3 more; the page that says so is the engine's."""
    asked, pages = scenario("vllm", ERRORS), iter([0, 12, 12, 12, 15])
    users = SimpleNamespace(serves=True, ours=lambda _: 0, since=datetime.min.replace(tzinfo=UTC))
    one = Guarded(SimpleNamespace(cluster=None, namespace="n", scenario=asked, users=users), asked.guarded[0])  # type: ignore[arg-type]
    pod = {"metadata": {"uid": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    text = 'http_requests_total{handler="/v1/chat/completions",status="2xx"}'
    one.meter = SimpleNamespace(counts=one.meter.counts, pods=lambda: ([pod], True), page=lambda _: f"{text} {next(pages)}")  # type: ignore[assignment]
    assert not any(one.read(100.0 + i, counts=True) for i in range(5))
    assert one.intervals == [(0, 1, 0, 0), (1, 1, 12, 0), (3, 1, 0, 0), (4, 1, 3, 0)]


def test_users_are_waited_for_where_they_come_often_enough() -> None:
    """60 in a minute: 40 more take 40 s; none has no rate, and enough need no wait."""
    asked = scenario("vllm", ERRORS)
    run = SimpleNamespace(cluster=None, namespace="n", scenario=asked)  # no cluster: what was read is set by hand
    one = Guarded(run, asked.guarded[0])  # type: ignore[arg-type]
    assert one.wanting_s() == math.inf
    one.began, one.intervals, one.ours = time.time() - 70, [(10.0, 1, 50, 0), (20.0, 0, 900, 0), (30.0, 1, 30, 0)], 20
    assert one.wanting_s() == pytest.approx(40, rel=0.02)
    one.intervals.append((60.0, 1, 40, 0))
    assert one.wanting_s() == 0

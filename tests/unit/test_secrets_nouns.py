"""Secrets: a server has its value or is named; each place is read or said to be unread, and a value in it is found."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.exec import Ended
from hotfire.plugin.nouns.candidate import Candidate
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.record.events import Seen
from hotfire.rollout.rbac import RUNNER, rbac
from hotfire.rollout.rights import rights
from hotfire.words import Reason
from tests.answers import ANCHOR, CORE, NAMESPACE, Answers, answering, listed, located, pod, status

VALUE = "hf_s3cret+token/value"
CLEAN = "# TYPE tiny_tokens_total counter\ntiny_tokens_total 120\n"
FORBIDDEN = 'pods "a:8080" is forbidden: User "hotfire" cannot get resource "pods/proxy" in API group "" in the namespace "n"'


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Two pods that serve, whose logs and metrics are clean."""
    monkeypatch.setattr("hotfire.rollout.metrics.PAGE_S", 0.3)
    with answering() as answers:
        answers.serving(pod("a"), pod("b"))
        answers.keep(VALUE)
        answers.said[f"{CORE}/events"] = listed({"metadata": {"name": "e"}, "message": "Created container server"})
        for name in ("a", "b"):
            answers.said[f"{CORE}/pods/{name}/log"] = 200, "2026-01-01T00:00:00Z ready\n"
            answers.said[metrics(name)] = 200, CLEAN
        yield answers


def metrics(name: str, port: int = 8080, path: str = "/metrics") -> str:
    return f"{CORE}/pods/{name}:{port}/proxy{path}"


def secret(*never_in: str) -> dict[str, Any]:
    places = {"never_in": never_in} if never_in else {}
    return {"secrets": [{"name": "hf-token", "key": "token", "as": "env HF_TOKEN", **places}]}


def leaks(api: Answers, *never_in: str, runtime: str = "tiny") -> tuple[list[str], list[Seen]]:
    """The findings, and what was seen."""
    asked, seen = located(runtime, **secret(*never_in)), list[Seen]()
    candidate = Candidate(api.cluster, asked, NAMESPACE, ANCHOR, 0.0)
    with running("secrets.absent", CheckSpec("secrets.absent", Evidence("place")), seen.append):
        return list(candidate.places_leaking(asked.scenario.injected[0])), seen


def test_clean_places_are_each_read_and_say_how_much(api: Answers) -> None:
    lines, seen = leaks(api)
    assert lines == [] and [next(iter(one.observed)) for one in seen] == ["logs", "events", "metrics", "manifests"]
    assert seen[2].observed == {"metrics": f"2 texts read, {2 * len(CLEAN)} characters"}


def test_a_value_on_a_metrics_page_is_found(api: Answers) -> None:
    api.said[metrics("b")] = 200, f'{CLEAN}build_info{{token="{VALUE}"}} 1\n'
    assert leaks(api, "metrics")[0] == ["metrics: b:8080/metrics holds the value of hf-token/token"]


FORMS = {
    "plain": (VALUE, VALUE),
    "base64": (VALUE, base64.b64encode(VALUE.encode()).decode()),
    "base64 of a header that holds it": (VALUE, base64.b64encode(f"user:{VALUE}".encode()).decode()),
    "URL-encoded": (VALUE, "hf_s3cret%2Btoken%2Fvalue"),
    "without the line's end that its file had": (f"{VALUE}\n", VALUE),
    "one line of a key": ("-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\n-----END KEY-----\n", "MIIEvQIBADANBgkqh"),
    "quoted once more": ('hf_"quoted"_value', 'hf_"quoted"_value'),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_value_that_is_printed_in_a_log_or_an_event_is_found(api: Answers, form: str) -> None:
    value, printed = FORMS[form]
    api.keep(value)
    api.said[f"{CORE}/pods/a/log"] = 200, f"2026-01-01T00:00:00Z started with {printed}, ready\n"
    api.said[f"{CORE}/events"] = listed({"metadata": {"name": "e"}, "message": f"Error: {printed}"})
    assert leaks(api, "logs", "events")[0] == [
        "logs: log of a/server holds the value of hf-token/token",
        "events: event e holds the value of hf-token/token",
    ]


def test_a_log_that_goes_on_beyond_what_was_searched_is_never_taken_for_a_clean_one(api: Answers, monkeypatch) -> None:
    monkeypatch.setattr("hotfire.plugin.nouns.candidate.LONGEST", 1 << 20)
    api.said[f"{CORE}/pods/b/log"] = 200, "2026-01-01T00:00:00Z x\n" * 50_000 + VALUE
    with pytest.raises(Unjudged, match="b/server has written 1 MiB and more, what follows was not searched"):
        leaks(api, "logs")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (404, "404 page not found"),
        (404, '{"detail":"Not Found"}'),
        (501, '{"error":{"code":501,"type":"not_supported_error"}}'),
        status(503, "ServiceUnavailable", 'error trying to reach service: malformed HTTP response "\\x00\\x00\\x06\\x04"'),
    ],
)
def test_a_server_that_says_it_has_no_page_has_none_to_leak(api: Answers, code: int, body: str) -> None:
    api.said[metrics("a")] = code, body
    lines, seen = leaks(api, "metrics")
    assert lines == []
    assert seen[0].observed == {"metrics": f"1 texts read, {len(CLEAN)} characters, no page at a:8080/metrics"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(403, "Forbidden", FORBIDDEN), FORBIDDEN),
        (status(404, "NotFound", 'pods "a" not found'), 'pods "a" not found'),
        (status(503, "ServiceUnavailable", "error trying to reach service: dial tcp: refused"), "dial tcp: refused"),
        ((401, '{"error":"Unauthorized"}'), "Unauthorized"),
        ((500, "boom"), "boom"),
    ],
)
def test_a_page_that_was_not_read_is_never_taken_for_a_clean_one(api: Answers, answer: tuple[int, str], said: str) -> None:
    api.said[metrics("a")] = answer
    with pytest.raises(Unjudged) as unjudged:
        leaks(api, "metrics")
    assert unjudged.value.reason is Reason.NO_DATA and said in unjudged.value.message
    assert "get pods/proxy" in unjudged.value.message and "take metrics out of never_in" in unjudged.value.message


def test_every_port_and_the_runtimes_own_path_is_read(api: Answers) -> None:
    api.serving(pod("a", "gpu-1", 8000, 8002))
    clean = {(port, path): metrics("a", port, path) for port in (8000, 8002) for path in ("/metrics", "/prometheus/metrics")}
    api.said |= dict.fromkeys(clean.values(), (404, ""))
    api.said[clean[8002, "/prometheus/metrics"]] = 200, VALUE
    lines, _ = leaks(api, "metrics", runtime="trtllm")
    assert lines == ["metrics: a:8002/prometheus/metrics holds the value of hf-token/token"]


@pytest.mark.parametrize("place", ["logs", "metrics"])
def test_nobody_to_be_read_is_no_clean_place(api: Answers, place: str) -> None:
    api.serving()
    with pytest.raises(Unjudged, match=place) as unjudged:
        leaks(api, place)
    assert unjudged.value.reason is Reason.EMPTY


@pytest.mark.parametrize(("never_in", "asked"), [((), True), (("logs", "metrics"), True), (("logs",), False)])
def test_the_right_to_read_metrics_is_asked_for_where_they_are_searched(never_in: tuple[str, ...], asked: bool) -> None:
    one = located(**secret(*never_in))
    rules = [rule for obj in rbac(one, NAMESPACE, RUNNER) for rule in obj.get("rules", ())]
    granted = [rule["verbs"] for rule in rules if rule["resources"] == ["pods/proxy"]]
    assert ("get pods/proxy" in map(str, rights(one))) is asked and granted == [["get"]] * asked


def held(api: Answers, monkeypatch: pytest.MonkeyPatch, as_: str, holds: dict[str, Ended]) -> tuple[list[str], list[Any]]:
    """The findings, and what was seen of the secret, where each pod's container prints so much."""
    asked, ran, seen = located(secrets=[{"name": "hf-token", "key": "token", "as": as_}]), list[Any](), list[Seen]()

    def run_in(cluster: object, namespace: str, name: str, container: str, command: list[str], **_: object) -> Ended:
        ran.append((container, command))
        return holds[name]

    monkeypatch.setattr("hotfire.plugin.nouns.pods.run_in", run_in)
    pods = CandidatePods(api.cluster, NAMESPACE, asked.scenario)
    with running("secrets.injected", CheckSpec("secrets.injected", Evidence("secret")), seen.append):
        lines = list(pods.without_secret(asked.scenario.injected[0]))
    assert ran == [("server", ["cat", "/proc/1/environ" if as_.startswith("env") else as_.partition(" ")[2]])] * 2
    return lines, [one.observed for one in seen if one.noun == "secret"]


HAS = Ended(0, f"PATH=/bin\0HF_TOKEN={VALUE}\0", "", "")


@pytest.mark.parametrize(
    "environ",
    ["PATH=/bin\0", "HF_TOKEN=\0", f"HF_TOKEN={VALUE} \0", f"XHF_TOKEN={VALUE}\0", f"OLD={VALUE}\0HF_TOKEN=other\0", ""],
)
def test_a_server_without_its_secret_is_named(api: Answers, monkeypatch: pytest.MonkeyPatch, environ: str) -> None:
    lines, seen = held(api, monkeypatch, "env HF_TOKEN", {"a": HAS, "b": Ended(0, environ, "", "")})
    assert lines == ["b: env HF_TOKEN does not hold hf-token/token"]
    assert seen == [{"a": "as in the Secret"}, {"b": "missing or different"}]


def test_a_secret_in_a_file_is_compared_whole(api: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    holds = {"a": Ended(0, VALUE, "", ""), "b": Ended(1, "", "cat: /run/token: No such file", "")}
    assert held(api, monkeypatch, "file /run/token", holds)[0] == ["b: file /run/token does not hold hf-token/token"]


def test_a_container_that_could_not_be_asked_is_no_finding(api: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unjudged, match="the connection broke"):
        held(api, monkeypatch, "env HF_TOKEN", {"a": HAS, "b": Ended(None, HAS.said, "", "the connection broke")})


@pytest.mark.parametrize("as_", ["env HF_TOKEN", "file /run/token"])
def test_a_place_that_may_not_be_read_is_no_finding(api: Answers, monkeypatch: pytest.MonkeyPatch, as_: str) -> None:
    """A process that dropped its rights: its environment is not root's to read without a capability."""
    denied = Ended(1, "", "cat: /proc/1/environ: Permission denied", "")
    with pytest.raises(Unjudged, match=r"b/server: .* cannot be read: cat: .*: Permission denied"):
        held(api, monkeypatch, as_, {"a": HAS if as_.startswith("env") else Ended(0, VALUE, "", ""), "b": denied})

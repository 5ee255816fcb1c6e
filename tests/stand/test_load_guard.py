"""What ends a load or a promotion early, on real kubelets: its own requests, or users' by what the candidate's pods counted."""

import http.client
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hotfire.kube.wait import pause
from tests.neighbour import neighbour

watchdog = neighbour("tests/stand/test_watchdog")
runs = watchdog.runs
judged = runs.judged
old = watchdog.old
LIVE = {"users": "live", "certified": "none", "consent": ["load"]}
CAPPED = {**LIVE, "load": {**runs.LOAD, "live_cap": "5/s"}}
ONLY_USERS = "what only users ask"


@contextmanager
def users(
    place: Any, workers: int = 1, every: float = 0.1, at: str = "", text: str = ONLY_USERS
) -> Iterator[Callable[[], int]]:
    """Requests to the Service, or to port 80 of an address, each on a connection of its own; gives how many were answered
    with 200."""
    spec = json.loads(place.kubectl("get", "service", "tiny", "-o", "json"))["spec"]
    host, port = at or spec["clusterIP"], 80 if at else spec["ports"][0]["port"]
    body = json.dumps({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": text}]})
    gone, answered = threading.Event(), []

    def ask() -> None:
        while not gone.wait(every):
            connection = http.client.HTTPConnection(host, port, timeout=5)
            try:
                connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                answered.append(connection.getresponse().status)
            except OSError:
                answered.append(0)
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: answered.count(200)
    finally:
        gone.set()
        for thread in threads:
            thread.join()


def ten_more(answered: Callable[[], int]) -> None:
    """By what serves now."""
    before = answered()
    while answered() < before + 10:
        pause(0.1)


def run(place: Any, command: list[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return place.ended(done.returncode, done.stdout + done.stderr)


def test_a_rated_load_ends_early_once_its_objective_fails_beyond_doubt(place, new) -> None:
    rated = {"arrivals": "poisson 20/s", "requests": 2000, "timeout": "8s", "max_tokens": 2}
    slos = [{"metric": "goodput", "within": {"ttft": "< 500ms", "e2e": "< 1s"}, "share": "> 95%"}]
    ended = place.run(runs.service(), new("--ttft", "1200ms"), scenario={"load": rated, "slos": slos})
    assert (ended.code, ended.check("load.slo[goodput-share]")["blame"]) == (20, "candidate"), ended.output
    assert 100 <= ended.verdict["gates"][0]["gate"]["requests"] < 400 and "an objective fails beyond doubt" in ended.output
    assert judged(ended.folder).returncode == 20


def test_a_load_that_burns_beside_users_is_handed_over_within_a_second(place: Any, armed: Any, new: Any) -> None:
    before = place.serving()
    ended = run(place, armed(runs.service(), new("--ttft", "1500ms"), scenario={**CAPPED, **runs.LONG}))
    found = ended.check("load.slo[e2e-p95]")
    assert (ended.code, found["outcome"], found["blame"]) == (20, "FAIL", "candidate"), ended.output
    assert ended.check("rollout.users[tiny]")["reason"] == "blocked"
    late = re.search(r"handed over ([0-9.]+) s after the end of the one that showed it", ended.output)
    assert late and float(late[1]) <= 1.0, ended.output
    old(place, before)
    assert judged(ended.folder).returncode == 20


def test_what_only_users_run_into_ends_the_run_and_is_rolled_back(place: Any, armed: Any, new: Any) -> None:
    before = place.serving()
    command = armed(runs.service(), new("--fail-on", ONLY_USERS), scenario={**CAPPED, **runs.LONG})
    process = runs.started(place, command, "load: ")
    with users(place, workers=4, every=0.06) as answered:
        process.wait(90)
        ten_more(answered)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    failed = [one["check"] for one in ended.verdict["checks"] if one["outcome"] == "FAIL"]
    assert (ended.code, failed, ended.check("rollout.users[tiny]")["blame"]) == (20, ["rollout.users[tiny]"], "candidate"), (
        ended.output
    )
    assert ended.check("load.slo[e2e-p95]")["reason"] == "blocked" and "after the reading that showed it" in ended.output
    old(place, before)
    again = judged(ended.folder)
    assert again.returncode == 20 and "users rollout.users[tiny]: users' requests burn" in again.stdout, again.stdout


def test_users_who_are_served_well_are_counted_and_the_run_is_go(place: Any, armed: Any, new: Any) -> None:
    with users(place, workers=8) as answered:
        command = armed(runs.service(), new(), scenario=LIVE)
        ended = run(place, command)
        assert answered() > 0
    assert (ended.code, ended.check("rollout.users[tiny]")["outcome"]) == (0, "PASS"), ended.output
    assert ended.check("preflight.live-load")["outcome"] == "PASS"
    assert "requests counted by the pods" in (ended.folder / "certificate.html").read_text()
    assert place.ask().startswith("new") and judged(ended.folder).returncode == 0


def test_where_no_user_came_nobody_knows_how_they_are_served(place: Any, armed: Any, new: Any) -> None:
    before = place.serving()
    ended = run(place, armed(runs.service(), new(), scenario=CAPPED))
    found = ended.check("rollout.users[tiny]")
    assert (ended.code, found["outcome"], found["reason"]) == (21, "INVALID", "empty-population"), ended.output
    old(place, before)


def test_a_load_beside_users_is_a_small_part_of_what_they_ask(place: Any, armed: Any, new: Any) -> None:
    before = place.serving()
    with users(place, workers=1, every=0.2):
        ended = run(place, armed(runs.service(), new(), scenario=LIVE))
    found = ended.check("preflight.live-load")
    assert (ended.code, found["outcome"], found["blame"]) == (21, "FAIL", "platform"), ended.output
    assert "spaced 200ms is more than 10% of the" in found["message"] and "requests to the first look take" in found["message"]
    assert ended.check("deploy.exact")["reason"] == "blocked"
    old(place, before)

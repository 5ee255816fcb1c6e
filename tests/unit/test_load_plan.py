"""A plan is the same bytes for the same seed, says when every request is due, and refuses what it cannot read."""

import gzip
import json
import re
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, pstdev

import pytest

from hotfire.errors import BadInput
from hotfire.load.plan import Lengths, Prompt, draw, due_times, load, read_prompts
from hotfire.load.samples import COLUMNS
from hotfire.scenario.units import Arrivals

PROMPTS = [Prompt("a", "first"), Prompt("b", "second", 7)]


def dues(arrivals: str, n: int, seed: int = 1) -> list[float]:
    return list(islice(due_times(arrivals, seed), n))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    digests = [draw(tmp_path / name, "poisson 8/s", PROMPTS, [50, 100], seed=seed).digest for name, seed in
               (("a", 1), ("b", 1), ("c", 2))]  # fmt: skip
    assert digests[0] == digests[1] != digests[2]


def test_a_plan_covers_warm_up_and_cap_in_order(tmp_path: Path) -> None:
    items = list(draw(tmp_path / "p", "poisson 8/s", PROMPTS, [10, 40], warm_up=3).items())
    assert [item.index for item in items] == list(range(43))
    assert all(one.due_us <= two.due_us for one, two in pairwise(items))
    assert {item.prompt: item.max_tokens for item in items} == {"a": 16, "b": 7}


def test_a_changed_plan_is_refused(tmp_path: Path) -> None:
    plan = draw(tmp_path / "p", "spaced 1s", PROMPTS, [5])
    plan.path.write_text(plan.path.read_text().replace("first", "other"))
    with pytest.raises(BadInput, match="was changed"):
        load(plan.path, plan.digest)


def test_a_plan_reads_back_as_it_was_drawn(tmp_path: Path) -> None:
    plan = draw(tmp_path / "p", "spaced 1500ms", PROMPTS, [5, 10], warm_up=2, unique=True)
    again = load(plan.path, plan.digest)
    assert again == plan
    assert (again.header.spaced, again.header.period_us, again.header.requests) == (True, 1_500_000, 12)
    texts = {again.text(again.prompts(), item) for item in again.items()}
    assert len(texts) == 12


@pytest.mark.parametrize(
    ("arrivals", "spread"), [("constant 20/s", 0.0), ("poisson 20/s", 1.0), ("gamma 20/s shape 0.25", 2.0)]
)
def test_arrivals_have_the_rate_and_the_spread_they_name(arrivals: str, spread: float) -> None:
    gaps = [b - a for a, b in pairwise(dues(arrivals, 20_000))]
    assert mean(gaps) == pytest.approx(0.05, rel=0.05)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(spread, abs=0.1)


def test_a_ramp_reaches_its_rate_and_stays_there() -> None:
    at = dues("ramp 1/s to 9/s over 10s", 140)
    assert sum(t < 10 for t in at) == pytest.approx(50, abs=1)
    assert at[-1] - at[-10] == pytest.approx(1.0, abs=0.01)


def test_steps_and_bursts_come_as_written() -> None:
    at = dues("steps 2/s 10/s each 5s", 30)
    assert (sum(t < 5 for t in at), sum(5 <= t < 7 for t in at)) == (10, 20)
    assert dues("bursts 3 every 2s", 7) == [0, 0, 0, 2, 2, 2, 4]


def test_a_replay_repeats_the_times_of_a_plan(tmp_path: Path) -> None:
    plan = draw(tmp_path / "p", "poisson 5/s", PROMPTS, [20])
    first = [item.due_us for item in plan.items()]
    again = [round(1e6 * t) for t in due_times(f"replay {plan.path}", 9)]
    assert again == [due - first[0] for due in first]


def test_a_replay_of_samples_begins_where_they_began_to_count(tmp_path: Path) -> None:
    rows = [list(COLUMNS), *([i - 2, int(i < 2), 1000 * i, *[None] * (len(COLUMNS) - 3)] for i in range(9))]
    with gzip.open(tmp_path / "samples.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*rows, {"silences": []}])
    assert list(due_times("replay samples.jsonl.gz", 1, tmp_path)) == pytest.approx([i / 1000 for i in range(7)])


@pytest.mark.parametrize(
    "body", ["", "{}", "nonsense", '{"due_us": "soon"}', '{"due_us": Infinity}', '{"due_us": NaN}', "[1, 2]"]
)
def test_a_file_without_arrivals_is_not_replayed(tmp_path: Path, body: str) -> None:
    (tmp_path / "p.jsonl").write_text(body)
    with pytest.raises(BadInput):
        due_times("replay p.jsonl", 1, tmp_path)


ARRIVALS = (
    "spaced 1m30s", "constant 8/s", "poisson 30/m", "gamma 8/s shape 0.5", "ramp 1/s to 9/s over 1m30s",
    "ramp 9/s to 1/s over 10s", "steps 2/s 10/s each 5s", "bursts 3 every 2s", "closed 4",
)  # fmt: skip


@pytest.mark.parametrize("text", ARRIVALS)
def test_the_scenario_and_the_plan_mean_the_same_arrivals(text: str) -> None:
    """What lint reckons with (rate, what comes before the last level, the crowd within a timeout) is what is drawn."""
    assert re.fullmatch(Arrivals.PATTERN, text)
    asked, at = Arrivals.parse(text), dues(text, 4_000)
    level = at[asked.lead + 1 :]
    if asked.period:
        assert (level[-1] - level[0]) / (len(level) - 1) == pytest.approx(asked.period, rel=0.06)
        assert level[0] >= asked.lead_s - 1e-6
        most = max(sum(due <= t < due + 20 for t in at[i : i + 600]) for i, due in enumerate(at[:2_000]))
        assert most <= 1.2 * asked.crowd(20) + 3 * asked.crowd(20) ** 0.5
        assert dues(asked.steady, 9)[0] >= 0


def test_lengths_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    lengths = Lengths("lognormal 200 cv 0.5", "uniform 8 to 64", prefix=20, groups=3)
    plan = draw(tmp_path / "p", "poisson 8/s", [Prompt("p", "x")], [2_000], lengths=lengths)
    items = list(load(plan.path, plan.digest).items())
    words, tokens = [item.words for item in items], [item.max_tokens for item in items]
    assert mean(words) == pytest.approx(200, rel=0.05) and pstdev(words) / mean(words) == pytest.approx(0.5, abs=0.05)
    assert (min(tokens), max(tokens)) == (8, 64) and {item.group for item in items} == {0, 1, 2}
    texts = [plan.text({}, item).split() for item in items[:50]]
    assert len({" ".join(text[:20]) for text in texts}) == 3 and len({" ".join(text) for text in texts}) == 50
    assert [len(text) for text in texts] == [20 + item.words for item in items[:50]]


@pytest.mark.parametrize(
    "arrivals", ["spaced 1", "poisson 8", "poisson 0/s", "spaced 0s", "often", "closed 0", "ramp 1/s to 2/s"]
)
def test_arrivals_that_are_not_understood_are_refused(arrivals: str) -> None:
    with pytest.raises(BadInput):
        dues(arrivals, 1)


def test_broken_prompt_lines_are_named_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "x"}\nnot json\n\n{"prompt": ""}\n{"prompt": "x", "max_tokens": "3"}\n')
    with pytest.raises(BadInput) as refused:
        read_prompts(path)
    assert [line.removeprefix(str(path)).split(" ")[0] for line in refused.value.lines] == [":2:1:", ":4:2:", ":5:17:"]


def test_a_line_of_prompts_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    """JSON may hold other line ends of Unicode raw; what lint has passed must not fail after the deploy."""
    texts = ["one\u2028two", "three\u0085four", "five\u2029six"]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}, ensure_ascii=False) + "\r\n\n" for text in texts), newline="")
    plan = draw(tmp_path / "plan.jsonl", "spaced 1s", read_prompts(path), [3])
    assert sorted(plan.prompts().values()) == sorted(texts) and len(list(plan.items())) == 3


def test_every_prompt_is_sent_before_any_comes_again(tmp_path: Path) -> None:
    many = [Prompt(str(i), "x") for i in range(10)]
    order = [item.prompt for item in draw(tmp_path / "p", "spaced 1s", many, [20]).items()]
    assert len(set(order[:10])) == len(set(order[10:])) == 10

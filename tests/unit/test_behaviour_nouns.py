"""Behaviour: what the suite compares, from servers whose answers were written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Breach
from hotfire.plugin.nouns.service import SHOWN, Service
from hotfire.record.events import Seen
from hotfire.runtimes.client import RuntimeClient
from hotfire.scenario.model import Behaviour
from hotfire.scenario.serves import Serves
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_runtimes_client")
says = base.says
GOLDEN = '{"prompt": "capital of France?", "expect": "Paris", "max_tokens": 8}\n{"prompt": "of Italy?", "expect": "Rome"}\n'


def asked(question: str, url: str, folder: Path, runtime: str = "vllm") -> tuple[Any, list[Seen]]:
    """What the noun says, and what it saw."""
    (folder / "golden.jsonl").write_text(GOLDEN)
    serves = Serves.model_validate({"workload": "deployment/a", "service": "a", "runtime": runtime, "model": "m"})
    service = Service(serves, RuntimeClient(url, runtime, "m", timeout=5), Behaviour(golden="golden.jsonl"), folder)
    seen: list[Seen] = []
    with running("a.check", CheckSpec("a.check", Evidence("answer")), seen.append):
        return getattr(service, question)(), seen


def completion(text: str, **more: Any) -> bytes:
    choice = {"message": {"content": text}, "finish_reason": "stop", **more}
    raw: bytes = base.whole(json.dumps({"choices": [choice], "usage": {"completion_tokens": 4}}))
    return raw


IDENTITY = {"vllm": ("data", "id"), "llamacpp": ("data", "id"), "ollama": ("models", "name")}


@pytest.mark.parametrize("runtime", IDENTITY)
@pytest.mark.parametrize(("listed", "served"), [(("other", "m"), "m"), (("other", "m-instruct"), "other")])
def test_another_model_is_called_by_its_own_name(says: Any, tmp_path: Path, runtime: str, listed: Any, served: str) -> None:
    many, one = IDENTITY[runtime]
    answer = base.whole(json.dumps({many: [{one: name} for name in listed]}))
    model, (seen,) = asked("served_model", says(answer), tmp_path, runtime)
    assert model == served and (seen.noun, seen.observed["served"], seen.expected) == ("answer", served, "m")


@pytest.mark.parametrize("runtime", IDENTITY)
def test_a_server_without_any_model_serves_none(says: Any, tmp_path: Path, runtime: str) -> None:
    with pytest.raises(Breach, match="has not the shape"):
        asked("served_model", says(base.whole(json.dumps({IDENTITY[runtime][0]: []}))), tmp_path, runtime)


def test_golden_answers_that_hold_what_is_expected_are_right(says: Any, tmp_path: Path) -> None:
    wrong, seen = asked("wrong_golden_answers", says(completion("PARIS, and rome.")), tmp_path)
    assert wrong == [] and [(one.noun, one.expected) for one in seen] == [("golden-case", "Paris"), ("golden-case", "Rome")]


def test_a_wrong_golden_answer_is_said_with_both_texts(says: Any, tmp_path: Path) -> None:
    wrong, seen = asked("wrong_golden_answers", says(completion("It is Paris.")), tmp_path)
    assert wrong == ["'of Italy?' got 'It is Paris.', 'Rome' is expected in it"] and len(seen) == 2


def test_a_long_wrong_answer_is_said_shortly_and_kept_whole(says: Any, tmp_path: Path) -> None:
    wrong, seen = asked("wrong_golden_answers", says(completion("x" * 4000)), tmp_path)
    assert wrong[0] == f"'capital of France?' got '{'x' * SHOWN}', 'Paris' is expected in it"
    assert seen[0].observed["answer"] == "x" * 4000


@pytest.mark.parametrize(("reason", "said"), [("abort", "finish reason 'abort'"), (None, "the answer has no finish reason")])
def test_a_golden_answer_that_is_not_whole_is_wrong(says: Any, tmp_path: Path, reason: str | None, said: str) -> None:
    wrong, _ = asked("wrong_golden_answers", says(completion("Paris and Rome", finish_reason=reason)), tmp_path)
    assert wrong[0] == f"'capital of France?' got 'Paris and Rome' ({said}), 'Paris' is expected in it" and len(wrong) == 2

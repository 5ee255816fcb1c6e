"""The Allure results, made to say what the record says, and nothing that is secret.

allure-pytest writes them while the tests run; here each is redacted in place and given name, history id and status of its
check, checks that pytest never ran get a result of their own, and a last scan fails loudly if a secret is left anywhere.
"""

import gzip
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotfire.errors import HarnessError
from hotfire.gates.decision import CheckOutcome
from hotfire.record.redactor import Redactor
from hotfire.report.story import Story, moment
from hotfire.words import Gate, Outcome

STATUS = {Outcome.PASS: "passed", Outcome.FAIL: "failed", Outcome.INVALID: "broken", Outcome.NOT_RUN: "skipped"}
STRANGE = {"status": "broken", "statusDetails": {"message": "no check of the plan: the record knows nothing of it"}}
CATEGORIES = (  # name, statuses, what the message ends with
    ("The candidate's", ["failed"], "blame: candidate"),
    ("The platform's", ["failed", "broken"], "blame: platform"),
    ("The harness's", ["failed", "broken"], "blame: harness"),
    ("Nobody knows whose", ["failed", "broken"], "blame: unknown"),
    ("Not asked, not permitted or blocked", ["skipped"], ""),
)


def allure_status(outcome: Outcome) -> str:
    """The one translation of an outcome into Allure's words."""
    return STATUS[outcome]


def write(folder: Path, story: Story, redactor: Redactor) -> None:
    """Bring a results folder into line with the record. Idempotent. Raises HarnessError when a secret is left in it."""
    keys = _keys(story)
    heard: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        data = _load(path)
        if data is None:
            continue
        data = redactor.value(data)
        if path.name.endswith("-result.json"):
            one = story.outcomes.get(_key(data, keys))
            data = {**data, **(_told(one, story) if one else STRANGE)}
            heard |= {one.key} if one else set()
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    for path in _attachments(folder):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if (clean := redactor.text(text)) != text:
            path.write_text(clean, encoding="utf-8", errors="surrogateescape")
    for key, one in story.outcomes.items():
        if key not in heard:
            _write_silent(folder, one, story)
    (folder / "environment.properties").write_text(_environment(story), encoding="utf-8")
    (folder / "categories.json").write_text(json.dumps(_categories(), indent=1), encoding="utf-8")
    scan(folder, redactor)


def scan(folder: Path, redactor: Redactor) -> None:
    """Raise HarnessError when any file below a folder, by name or content, holds a known secret value; say where, not what."""
    found = [
        f"{path.relative_to(folder)} ({', '.join(sorted(names))})"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (names := redactor.names_in(path.name) | _names(path, redactor))
    ]
    if found:
        raise HarnessError(f"a secret's value is in {len(found)} written files: {'; '.join(found)}")


def _names(path: Path, redactor: Redactor) -> frozenset[str]:
    """Secrets whose values a file holds, compressed or not; read line by line, a samples file may be large."""
    found: frozenset[str] = frozenset()
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file, suppress(EOFError):  # torn by a stopped carrier
        for line in file:
            found |= redactor.names_in(line.decode("utf-8", "replace"))
    return found


def _told(one: CheckOutcome, story: Story) -> dict[str, Any]:
    """What a result says of its check; the history id outlives the run, so nothing of the run is in it."""
    words = [one.message or str(one.reason or "")]
    whose = [f"blame: {one.blame}"] if one.blame else []
    scenario = story.opened.scenario if story.opened else ""
    identity = hashlib.sha256(f"{scenario}\n{one.key}".encode()).hexdigest()[:32]
    labels = {
        "parentSuite": scenario or "hotfire",
        "suite": one.planned.suite.removeprefix("test_").replace("_", " "),
        "severity": "critical" if one.planned.gate is Gate.REQUIRED else "minor",
        "tag": one.planned.gate.value,
        "framework": "hotfire",
        **({"feature": one.planned.row} if one.planned.row else {}),
    }
    return {
        "name": one.key,
        "fullName": one.key,
        "titlePath": [labels["parentSuite"], labels["suite"]],
        "historyId": identity,
        "testCaseId": identity,
        "status": allure_status(one.outcome),
        "description": one.planned.question,
        "statusDetails": {"message": "\n".join(words + whose), "trace": "\n".join(one.details)} if one.reason else {},
        "parameters": [{"name": "parameter", "value": one.planned.param}] if one.planned.param else [],
        "labels": [{"name": name, "value": value} for name, value in labels.items()],
    }


def _write_silent(folder: Path, one: CheckOutcome, story: Story) -> None:
    """A result for what pytest has none of: the same file again when it is written again."""
    stop = int(moment(story.ended).timestamp() * 1000) if story.ended else 0
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{story.run}/{one.key}"))
    times = {"start": stop - int(one.seconds * 1000), "stop": stop}
    data = {"uuid": name, "stage": "finished", **times, **_told(one, story)}
    (folder / f"{name}-result.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _keys(story: Story) -> Mapping[str, str]:
    """test function -> check id, as planned."""
    return {one.planned.test: one.planned.id for one in story.outcomes.values()}


def _key(result: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """The check of a result: by the name of its test, or, when it went through here before, its own."""
    name = re.fullmatch(r"(\w+)(?:\[(.*)\])?", str(result.get("name", "")))
    if name is None or name[1] not in keys:
        return str(result.get("fullName", ""))
    return f"{keys[name[1]]}[{name[2]}]" if name[2] else keys[name[1]]


def _load(path: Path) -> dict[str, Any] | None:
    """None for what is no object, such as categories.json."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HarnessError(f"{path.name}: not a result of Allure: {error}") from None
    return data if isinstance(data, dict) else None


def _attachments(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*-attachment*")) if path.is_file())


def _environment(story: Story) -> str:
    opened = story.opened
    values = {"verdict": story.verdict.value, "run": story.run, "record": story.head}
    if opened:
        values |= {
            "scenario": opened.scenario, "mode": opened.mode.value, "candidate": opened.candidate_digest,
            "baseline": opened.baseline, "accelerators": opened.accelerators, "stand": opened.stand,
            "way.back": story.way_back, "users": opened.users, "hotfire": opened.version,
        }  # fmt: skip
    return "".join(f"{name}={' '.join(value.split())}\n" for name, value in values.items())


def _categories() -> list[dict[str, Any]]:
    return [
        {"name": name, "matchedStatuses": statuses} | ({"messageRegex": f"(?s).*{ending}$"} if ending else {})
        for name, statuses, ending in CATEGORIES
    ]

"""Reads a scenario and its manifests. All that is wrong is said at once: `file:line:column: what, what is allowed`."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hotfire.errors import BadInput
from hotfire.scenario.datafiles import read_dues
from hotfire.scenario.manifests import read_manifests
from hotfire.scenario.marks import Document, Loc, at, mark_of, read_core
from hotfire.scenario.model import Located, Scenario
from hotfire.scenario.nearest import nearest
from hotfire.scenario.units import FROM_FILE

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def load(path: Path, namespace: str | None = None) -> Located:
    """The scenario in a file (or in a folder's scenario.yaml) with the objects it would roll out.

    namespace: used instead of the file's `stand.namespace`. Raises BadInput with every line that is wrong.
    """
    if namespace is not None and not NAMESPACE.fullmatch(namespace):
        raise BadInput(f"--namespace {namespace!r}: not a namespace name, lower case letters, digits and - are allowed")
    path = path / "scenario.yaml" if path.is_dir() else path
    document, digest = _document(path)
    if namespace is not None and isinstance(document.data, dict) and isinstance(document.data.get("stand"), dict):
        document.data["stand"]["namespace"] = namespace
    scenario = _replayed(_scenario(path, document), path, document)
    shown = mark_of(document.marks, ("candidate", "manifests"))[1].value
    found = read_manifests(scenario, path.parent / scenario.candidate.manifests, at(path, shown), path, document.marks)
    return Located(
        scenario=scenario, path=path, objects=found.objects, prerequisites=found.prerequisites, sources=found.sources,
        checks=_checks(scenario, path, document), digest=digest, marks=document.marks,
    )  # fmt: skip


def _document(path: Path) -> tuple[Document, str]:
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except FileNotFoundError:
        raise BadInput(f"{path}: not found, a scenario file is expected") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}:1: not UTF-8 text") from None
    documents = list(read_core(text))
    if not documents:
        raise BadInput(f"{path}:1:1: an empty file, a scenario is expected")
    if len(documents) > 1:
        raise BadInput(f"{at(path, documents[1].marks[()].value)}: a second document, one scenario per file is allowed")
    document = documents[0]
    if document.wrong:
        raise BadInput(*(f"{at(path, (line, column))}: {text}" for line, column, text in sorted(document.wrong)))
    return document, hashlib.sha256(raw).hexdigest()


def _scenario(path: Path, document: Document) -> Scenario:
    try:
        return Scenario.model_validate(document.data, context=FROM_FILE)
    except ValidationError as error:
        lines: dict[tuple[tuple[int, int], str], None] = {}
        items = error.errors(include_url=False)
        for item in items:
            loc: Loc = item["loc"]
            if item["type"] == "too_short" and any(one["loc"] != loc and one["loc"][: len(loc)] == loc for one in items):
                continue  # the entries there are were refused themselves
            known, mark = mark_of(document.marks, loc)
            on_key = item["type"] in ("extra_forbidden", "missing")
            lines[(mark.key if on_key else mark.value, _said(item, known))] = None
        raise BadInput(*(f"{at(path, place)}: {text}" for place, text in sorted(lines))) from None


def _replayed(scenario: Scenario, path: Path, document: Document) -> Scenario:
    """With the arrivals of a replay read, so that its rate is known; a file that cannot be is left to lint, which names it."""
    if scenario.load is None or not scenario.load.arrivals.file:
        return scenario
    try:
        arrivals = scenario.load.arrivals.resolved(read_dues(path.parent / scenario.load.arrivals.file))
    except BadInput:
        return scenario
    except ValueError as error:
        raise BadInput(f"{at(path, mark_of(document.marks, ('load', 'arrivals'))[1].value)}: load.arrivals: {error}") from None
    return scenario.model_copy(update={"load": scenario.load.model_copy(update={"arrivals": arrivals})})


def _checks(scenario: Scenario, path: Path, document: Document) -> tuple[Path, ...]:
    """The files that `checks` names, each once, by name."""
    found: dict[Path, None] = {}
    for index, pattern in enumerate(scenario.checks):
        here = [] if Path(pattern).is_absolute() else sorted(one for one in path.parent.glob(pattern) if one.is_file())
        if not here or any(re.fullmatch(r"test_\w+\.py", one.name) is None for one in here):
            seen = ", ".join(one.name for one in here) or "no file"
            where = at(path, mark_of(document.marks, ("checks", index))[1].value)
            raise BadInput(f"{where}: checks: {pattern!r} is {seen}, files test_*.py beside the scenario are expected")
        found |= dict.fromkeys(one.resolve() for one in here)
    return tuple(sorted(found, key=lambda one: one.name))


def _said(item: Any, known: Loc) -> str:
    """pydantic's error in the words of somebody who edits YAML: what stands there, what is allowed."""
    loc, kind, context, value = item["loc"], item["type"], item.get("ctx") or {}, item.get("input")
    named = ".".join(str(part) for part in known if isinstance(part, str)) or "the scenario"
    if kind == "extra_forbidden":
        allowed = sorted({name for model in _models(loc[:-1]) for name in _keys(model)})
        return f"unknown key {loc[-1]!r}, {nearest(str(loc[-1]), allowed)}"
    if kind == "missing":
        meaning = next((_meaning(model, loc[-1]) for model in _models(loc[:-1]) if loc[-1] in _keys(model)), "")
        return f"{named}: key {loc[-1]!r} is missing" + (f" ({meaning})" if meaning else "")
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"{named}: {value!r} is unknown, {nearest(str(value), allowed)}"
    if kind == "value_error":
        return f"{named}: {context['error']}"
    if kind == "string_pattern_mismatch":
        return f"{named}: {value!r} is not allowed, {_pattern(str(context['pattern']))} is expected"
    least = context.get("min_length")
    entries = "at least one entry" if least == 1 else f"a list of at least {least}"
    expected = {
        "bool_type": "true or false", "int_type": "a whole number", "int_from_float": "a whole number",
        "string_type": "a string", "model_type": "a mapping", "model_attributes_type": "a mapping",
        "dict_type": "a mapping", "tuple_type": "a list",
        "too_short": entries, "greater_than_equal": f"{context.get('ge')} or more",
        "less_than_equal": f"{context.get('le')} or less",
    }.get(kind)  # fmt: skip
    shown = {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), repr(value))
    if kind == "string_type" and isinstance(value, int | float):
        expected = "a quoted string"
    return f"{named}: {'an empty list' if value == [] else shown} is not allowed, {expected or item['msg']} is expected"


PATTERNS = {
    "deployment|statefulset": "deployment/NAME or statefulset/NAME",
    "env ": "'env NAME' or 'file /path'",
    "[^/]+/": "NAME/KEY",
}


def _pattern(pattern: str) -> str:
    said = (words for part, words in PATTERNS.items() if part in pattern)
    return next(said, "a name of lower case letters, digits and - (at most 53)")


def _keys(model: type[BaseModel]) -> dict[str, str]:
    """Key in the file -> field name."""
    return {str(field.alias or name): name for name, field in model.model_fields.items()}


def _meaning(model: type[BaseModel], key: str) -> str:
    return model.model_fields[_keys(model)[key]].description or ""


def _models(loc: Loc) -> list[type[BaseModel]]:
    """The models that may stand at a place of the file; union members named in loc narrow them down."""
    now: list[type[BaseModel]] = [Scenario]
    for part in loc:
        if isinstance(part, int):
            continue
        tagged = [model for model in now if model.__name__ == part]
        below = [
            child for model in now if part in _keys(model)
            for child in _inside(model.model_fields[_keys(model)[part]].annotation)
        ]  # fmt: skip
        now = tagged or below
    return now


def _inside(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)

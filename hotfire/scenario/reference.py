"""What is generated from the models: the JSON schema that editors read, and the field reference that people read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hotfire.scenario.model import Scenario

SCHEMA = Path(__file__).with_name("schema.json")
README = Path(__file__).parents[2] / "scenarios" / "README.md"

WRITTEN = {"spaced": "arrivals", "lognormal": "lengths", "/(?:s|m)": "share or rate"}  # in a pattern -> its kind
HEAD = """# Scenarios

One folder each: `scenario.yaml`, `manifests/` and what they name. `hotfire lint SCENARIO` names whatever is wrong as
`file:line:column`, `hotfire plan SCENARIO` says what its load can decide and how long it takes. Neither needs a cluster.

The first line gives editors the schema: `# yaml-language-server: $schema=../../hotfire/scenario/schema.json`. Durations
are `350ms`, `30s`, `2m`, `1h30m`, `7d`; shares are `0.5%`; limits are `< 350ms` or `< 0.5%`; a bare number is refused
where a unit belongs. Files are YAML 1.2: `on` and `no` are words. Unknown and duplicate keys are refused.

An own check is a test in a file that `checks` names, with a conftest.py for its fixtures beside it. The suites' nouns are
fixtures there, too:

```python
from hotfire.check import Evidence, check, saw


@check("cache.second-start", needs=Evidence("start", at_least=2), row="persistent storage and cache")
def test_a_second_start_is_faster(starts):
    \"\"\"The second start reads the cache.\"\"\"
    saw("start", len(starts), starts)  # without its evidence green is INVALID
    assert starts[1] < starts[0] / 2
```

What follows is generated from `hotfire/scenario/model.py` by `make checks`; do not edit.
"""


def schema() -> str:
    """The JSON schema of a scenario file, as text."""
    named = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hotfire scenario"}
    return json.dumps({**Scenario.model_json_schema(by_alias=True), **named}, indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """scenarios/README.md: every field with type, default and meaning."""
    whole = Scenario.model_json_schema(by_alias=True)
    paths = {"Scenario": "", **dict(_paths(whole, whole, ""))}
    lines = [HEAD]
    for name, path in paths.items():
        body = whole["$defs"].get(name, whole)
        title = f"`{path}`" if path else "The file"
        meaning = str(body.get("description", "")).replace("\n", " ").strip()
        lines += [f"## {title}", "", *([meaning, ""] if meaning and path else [])]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        needed = body.get("required", ())
        for key, field in body["properties"].items():
            default = "**needed**" if key in needed else _default(field)
            lines.append(f"| `{key}` | {_kind(field)} | {default} | {_cell(field)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(field: dict[str, Any]) -> str:
    return str(field.get("description", "")).replace("|", "\\|")


def _paths(whole: dict[str, Any], body: dict[str, Any], above: str) -> Iterator[tuple[str, str]]:
    """Definition -> where it stands in the file, such as `candidate.serves[]`."""
    for key, field in body.get("properties", {}).items():
        for name, listed in _models(field):
            if "properties" in whole["$defs"].get(name, {}):
                path = f"{above}{key}{'[]' if listed else ''}"
                yield name, path
                yield from _paths(whole, whole["$defs"][name], path + ".")


def _models(field: dict[str, Any], listed: bool = False) -> Iterator[tuple[str, bool]]:
    if "$ref" in field:
        yield field["$ref"].rsplit("/", 1)[1], listed
    for part in (*field.get("anyOf", ()), *field.get("oneOf", ()), *field.get("allOf", ())):
        yield from _models(part, listed)
    if isinstance(field.get("items"), dict):
        yield from _models(field["items"], True)


def _kind(field: dict[str, Any]) -> str:
    """In the words of somebody who writes YAML."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return {"Gate": "`required`, `advisory`", "Mode": "`certify`, `nightly`, `promote`"}.get(name, "mapping")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    parts = [part for part in (*field.get("anyOf", ()), *field.get("oneOf", ())) if part.get("type") != "null"]
    if parts:
        return " or ".join(dict.fromkeys(_kind(part) for part in parts))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"mapping of {_kind(values)}" if isinstance(values, dict) else "mapping"
    pattern = str(field.get("pattern", ""))
    if "examples" in field:
        return next((kind for sign, kind in WRITTEN.items() if sign in pattern), "limit")
    if "none" in pattern:
        return "share or `none`"
    if pattern.startswith("^(?=") or "%" in pattern:
        return "share" if "%" in pattern else "duration"
    return {"string": "text", "integer": "number", "boolean": "true, false"}.get(str(field.get("type")), str(field.get("type")))


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return "-"
    shown = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return "-" if value in ([], {}) or isinstance(value, dict) else f"`{shown}`"

"""YAML with its places kept: every key and value knows its line and column (both from 1).

Scenario files follow the YAML 1.2 core schema: `on` and `no` are words, `12:30:45` is a string, `0777` is 777. Manifests
follow what kubectl reads: 1.1 booleans and octals, but no sexagesimal numbers and no timestamps (facts: ecosystem 6).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Loc = tuple[str | int, ...]
NODES = 100_000  # a file with more than this is an alias bomb, not a scenario


class Mark(NamedTuple):
    """Where a key stands and where its value does; equal for list items and for the document itself."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass
class Document:
    """One YAML document: plain data, the mark of every path in it, and what is wrong with it as `line, column, text`."""

    data: Any = None
    marks: dict[Loc, Mark] = field(default_factory=dict)
    wrong: list[tuple[int, int, str]] = field(default_factory=list)


class _Core(yaml.SafeLoader):
    """The 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


class _Kubectl(yaml.SafeLoader):
    """1.1 as kubectl's reader has it: no base 60, no timestamps, `1e3` is a number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_NULL = r"~|null|Null|NULL|"
for _loader, _bool, _int in (
    (_Core, r"true|True|TRUE|false|False|FALSE", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    (
        _Kubectl,
        r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
        r"[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|0o[0-7_]+)",
    ),
):
    for _tag, _pattern, _first in (
        ("bool", _bool, list("tTfFyYnNoO")),
        ("null", _NULL, ["~", "n", "N", ""]),
        ("int", _int, list("-+0123456789")),
        ("float", _FLOAT, list("-+.0123456789")),
    ):
        _loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Kubectl.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def read_core(text: str) -> Iterator[Document]:
    """Every document of a file of ours."""
    return _read(text, _Core)


def read_kubectl(text: str) -> Iterator[Document]:
    """Every document of a manifest file."""
    return _read(text, _Kubectl)


def _read(text: str, loader: type[yaml.SafeLoader]) -> Iterator[Document]:
    try:
        nodes = list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        if error.problem == "mapping values are not allowed here":
            said += " (a value that holds `: ` needs quotes)"
        yield Document(wrong=[(line, column, f"not YAML: {said}")])
        return
    except yaml.YAMLError as error:
        yield Document(wrong=[(1, 1, f"not YAML: {error}".replace("\n", " "))])
        return
    for node in nodes:
        if node is not None:
            yield _Walk(core=loader is _Core).document(node)


class _Walk:
    """Node tree to plain data, with marks; written out because PyYAML's constructor drops both places and duplicates."""

    def __init__(self, core: bool) -> None:
        self.core, self.left = core, NODES
        self.out = Document()

    def document(self, node: yaml.Node) -> Document:
        self.out.data = self._value(node, (), _place(node), ())
        return self.out

    def _value(self, node: yaml.Node, loc: Loc, key: tuple[int, int], above: tuple[int, ...]) -> Any:
        self.out.marks.setdefault(loc, Mark(key, _place(node)))
        self.left -= 1
        if id(node) in above or self.left < 0:
            if self.left >= -1:
                self._wrong(node, "an alias that holds itself" if id(node) in above else f"more than {NODES} values by aliases")
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc, above)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*loc, at), _place(item), above) for at, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, loc: Loc, above: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        seen: dict[str, tuple[int, int]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in reversed(parts):
                    more = self._value(part, loc, _place(key_node), above)
                    merged |= more if isinstance(more, dict) else {}
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "of several values"
                self._wrong(key_node, f"key {shown} is not a string, quote it")
                continue
            if key in seen:
                first = ":".join(map(str, seen[key]))
                self._wrong(key_node, f"duplicate key {key!r}, first at {first}, one of them is allowed")
                continue
            seen[key] = _place(key_node)
            data[key] = self._value(value_node, (*loc, key), seen[key], above)
        return merged | data

    def _scalar(self, node: yaml.Node) -> Any:
        text, tag = str(node.value), str(node.tag).removeprefix("tag:yaml.org,2002:")
        try:
            return self._typed(node, text, tag)
        except ValueError:  # an explicit tag on something else: `!!int abc`
            self._wrong(node, f"{text!r} is no {tag}")
            return None

    def _typed(self, node: yaml.Node, text: str, tag: str) -> Any:
        if tag == "str":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in ("true", "yes", "on")
        if tag == "int":
            return self._integer(text)
        if tag == "float" and not math.isfinite(number := float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))):
            self._wrong(node, f"{text} is no number that can be used, a finite one is expected")
            return None
        if tag == "float":
            return number
        self._wrong(node, f"tag {node.tag} is not allowed, plain YAML is expected")
        return None

    def _integer(self, text: str) -> int:
        sign, bare = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
        if not self.core:
            bare = bare.replace("_", "")
            if re.fullmatch(r"0[0-7]+", bare):
                return sign * int(bare, 8)
        return sign * (int(bare, 0) if bare[:2].lower() in ("0x", "0o", "0b") else int(bare))

    def _wrong(self, node: yaml.Node, text: str) -> None:
        self.out.wrong.append((*_place(node), text))


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def at(path: Path, place: tuple[int, int]) -> str:
    """`file:line:column`, as compilers and editors write it."""
    return f"{path}:{place[0]}:{place[1]}"


def mark_of(marks: dict[Loc, Mark], loc: Loc) -> tuple[Loc, Mark]:
    """The deepest place on the way to loc; parts that no key of the file has (union members, defaults) are passed over."""
    known: Loc = ()
    for part in loc:
        if (*known, part) in marks:
            known = (*known, part)
    return known, marks.get(known, Mark((1, 1), (1, 1)))

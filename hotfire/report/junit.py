"""`junit.xml`: every planned check as a test case, its status as the record has it (FAIL failure, INVALID error)."""

import re
import xml.etree.ElementTree as xml
from collections.abc import Sequence

from hotfire.gates.decision import CheckOutcome
from hotfire.report.story import Story
from hotfire.words import Outcome

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
ELEMENT = {Outcome.FAIL: "failure", Outcome.INVALID: "error", Outcome.NOT_RUN: "skipped"}


def junit_xml(story: Story) -> str:
    """The text of junit.xml: a suite per stage; the verdict and what it is bound to as properties of the first element."""
    root = xml.Element("testsuites", name=_text(f"hotfire {story.run}"))
    suites: dict[str, list[CheckOutcome]] = {}
    for one in story.outcomes.values():
        suites.setdefault(one.planned.suite, []).append(one)
    for name, checks in suites.items():
        suite = xml.SubElement(root, "testsuite", _counts(checks) | {"name": _text(name), "timestamp": story.began})
        _properties(suite, story)
        for one in checks:
            _case(suite, one)
    root.attrib.update(_counts(list(story.outcomes.values())))
    xml.indent(root)
    return xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(checks: Sequence[CheckOutcome]) -> dict[str, str]:
    found = [one.outcome for one in checks]
    numbers = {"tests": len(found), "failures": found.count(Outcome.FAIL), "errors": found.count(Outcome.INVALID)}
    numbers["skipped"] = found.count(Outcome.NOT_RUN)
    return {name: str(number) for name, number in numbers.items()} | {"time": f"{sum(one.seconds for one in checks):.3f}"}


def _properties(suite: xml.Element, story: Story) -> None:
    properties = xml.SubElement(suite, "properties")
    values = {"verdict": story.verdict.value, "run": story.run, "record": story.head}
    if story.opened:
        values |= {name: str(getattr(story.opened, name)) for name in ("candidate_digest", "accelerators", "users")}
        values["way_back"] = story.way_back
    for name, value in values.items():
        xml.SubElement(properties, "property", name=name, value=_text(value))


def _case(suite: xml.Element, one: CheckOutcome) -> None:
    case = xml.SubElement(suite, "testcase", classname=_text(one.planned.suite), name=_text(one.key), time=f"{one.seconds:.3f}")
    if one.outcome in ELEMENT:
        said = xml.SubElement(case, ELEMENT[one.outcome], message=_text(one.message or str(one.reason)), type=str(one.reason))
        said.text = _text("\n".join([*one.details, *([f"blame: {one.blame}"] if one.blame else [])]))


def _text(text: str) -> str:
    return FORBIDDEN.sub("�", text)

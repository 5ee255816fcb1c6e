"""One consumer of the record per format: each report is made from the record and the samples it names, and nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hotfire.errors import HarnessError, HotfireError
from hotfire.record.redactor import Redactor
from hotfire.report import allure
from hotfire.report.certificate import certificate_html
from hotfire.report.junit import junit_xml
from hotfire.report.story import Story
from hotfire.report.verdict import verdict_json
from hotfire.words import Verdict

ALLURE = "allure-results"


def write_all(folder: Path, redactor: Redactor | None = None) -> Story:
    """Write verdict.json, certificate.html and junit.xml, and bring the Allure results into line. Idempotent.

    Called once the record is closed. redactor: the run's own, for what allure-pytest and others wrote; without it (a later
    call on a folder that was clean when it was made) the folder is not scanned for secrets. verdict.json comes last: where
    it is, the other reports are whole. Raises HarnessError when a secret's value is found in any file of the folder.
    """
    story = Story.read(folder)
    _put(folder / "certificate.html", certificate_html(story, folder))
    _put(folder / "junit.xml", junit_xml(story))
    results = folder / ALLURE
    if results.is_dir():
        allure.write(results, story, redactor or Redactor())
    if redactor is not None:
        allure.scan(folder, redactor)
    _put(folder / "verdict.json", json.dumps(verdict_json(story), indent=1, ensure_ascii=False) + "\n")
    return story


def reported(
    folder: Path,
    redactor: Redactor,
    reached: Verdict,
    tell: Callable[[str], object],
    conclude: Callable[[Verdict], object],
) -> Verdict:
    """Write the reports of a closed record; the verdict that they leave: without them a GO is no proof of anything. conclude:
    writes another verdict than the one reached into the tombstone."""
    try:
        found = write_all(folder, redactor).verdict
    except HotfireError as error:
        tell(f"the reports are not whole: {error}")
        found = Verdict.UNSAFE if reached is Verdict.GO else reached
    if found is not reached:
        try:
            conclude(found)
        except HarnessError as error:
            tell(f"the tombstone says {reached}, and could not be written: {error}")
    return found


def _put(path: Path, text: str) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)

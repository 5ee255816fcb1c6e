"""What a run must know of Secrets before it writes a line, and which it refuses: the place in the file, never the value."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.errors import BadInput
from hotfire.plugin.secrets import learn
from hotfire.record.redactor import Redactor
from hotfire.scenario.loader import load
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
NOBODY: Any = SimpleNamespace(find=lambda ref: None)  # a cluster without Secrets: the manifests bring them


def learned(folder: Path, asked: str, **data: str) -> Redactor:
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData:\n"
    lines = "".join(f"  {name}: {value}\n" for name, value in data.items())
    before, _, rest = base.SCENARIO.partition("secrets:")
    text = f"{before}{asked}\nload: {{{rest.partition('load: {')[2]}"
    located = load(base.write(folder, text, all=base.MANIFESTS + (secret + lines if data else "")))
    learn(NOBODY, located, redactor := Redactor())
    return redactor


AUTH = "reach: {via: nodeport, auth: {secret: key/token}}"


def test_the_key_of_the_requests_is_known_before_the_first_line(tmp_path: Path) -> None:
    assert learned(tmp_path, AUTH, token="sesame-1234").text("it is sesame-1234") == "it is [redacted key/token]"


@pytest.mark.parametrize("value", ['"sesame-1234\\n"', '"sesame 1234"', '"sesame\\t1234"', '"sésame-1234"', '""'])
def test_a_key_that_no_header_may_hold_is_refused_and_not_told(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadInput) as bad:
        learned(tmp_path, AUTH, token=value)
    (said,) = bad.value.lines
    assert said.startswith(f"{tmp_path}/scenario.yaml:10:31: the value of token in Secret key is empty or holds what no header")
    assert "sesame" not in said and "sésame" not in said


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (AUTH, "10:31: Secret key in team has no key token, the key that requests carry is expected"),
        (
            "secrets: [{name: hf, key: token, as: env HF_TOKEN}]",
            "10:11: Secret hf in team is not there, a Secret with it",
        ),
    ],
)
def test_a_secret_that_is_not_there_is_refused(tmp_path: Path, asked: str, says: str) -> None:
    with pytest.raises(BadInput) as bad:
        learned(tmp_path, asked)
    assert any(says in line for line in bad.value.lines), bad.value.lines

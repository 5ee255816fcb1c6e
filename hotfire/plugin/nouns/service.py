"""service: one API that the candidate serves, asked as a user would ask it."""

from pathlib import Path
from typing import Any

from hotfire.check import Findings, saw
from hotfire.runtimes.client import RuntimeClient
from hotfire.scenario.datafiles import read_golden
from hotfire.scenario.model import Behaviour
from hotfire.scenario.serves import Serves

QUESTION = "Say hello."
SHOWN = 120  # characters of a text in a finding; the record has all of it


class Service:
    """The noun of suite 60; every request is on a fresh connection."""

    def __init__(self, serves: Serves, client: RuntimeClient, behaviour: Behaviour, folder: Path) -> None:
        self.serves, self.client, self.behaviour, self.folder = serves, client, behaviour, folder

    def served_model(self) -> str:
        """What the engine says it serves; where its answer proves nothing the runtime's contract says so in the evidence."""
        model = self.client.identity()
        saw("answer", 1, {"served": model, "proves": self.client.contract.identity_proves}, self.serves.model)
        return model

    def contract_breaches(self) -> Findings:
        """A plain request, whole: status, content, finish reason, token counts."""
        if self.serves.api == "embeddings":
            vectors = self.client.embed([QUESTION, QUESTION])
            saw("answer", len(vectors), {"dimensions": [len(vector) for vector in vectors]}, "two equal vectors")
            return Findings([] if vectors[0] and vectors[0] == vectors[1] else ["equal inputs got different vectors"])
        answer = self.client.complete(QUESTION, max_tokens=8, stream=False)
        saw("answer", 1, answer.facts())
        return Findings(answer.breaches(), observed=answer.facts())

    def stream_breaches(self) -> Findings:
        """A stream, to its end; a runtime that only embeds has none, which is said as evidence."""
        if self.serves.api == "embeddings":
            saw("answer", 1, "an embedding API does not stream")
            return Findings()
        answer = self.client.complete(QUESTION, max_tokens=8, stream=True)
        saw("answer", 1, answer.facts())
        return Findings(answer.breaches(), observed=answer.facts())

    def cases(self) -> list[dict[str, Any]]:
        """The golden set. Raises BadInput for a file that was changed since it was linted."""
        return read_golden(self.folder / self.behaviour.golden) if self.behaviour.golden else []

    def wrong_golden_answers(self) -> Findings:
        """Cases whose answer does not contain what is expected, or was not whole."""
        wrong = Findings()
        for case, answer, right in self.client.golden(self.cases()):
            saw("golden-case", 1, {"prompt": case["prompt"], "answer": answer.text, "error": answer.error}, case["expect"])
            if not right:
                said = f"{answer.text[:SHOWN]!r}{f' ({answer.error})' if answer.error else ''}"
                wrong.append(f"{case['prompt'][:SHOWN]!r} got {said}, {case['expect'][:SHOWN]!r} is expected in it")
        return wrong

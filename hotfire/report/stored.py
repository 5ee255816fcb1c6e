"""Earlier runs as something to compare with: GO, whole, of one candidate, under the same load on the same kind of stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.load.samples import Samples, read
from hotfire.record.events import Loaded, Opened
from hotfire.report.story import RECORD, Story
from hotfire.words import Reason, Verdict


@dataclass(frozen=True)
class Key:
    """What must be the same for figures to be comparable. stand: without the namespace; load: the plan's SHA-256."""

    accelerators: str
    stand: str
    load: str
    to: str

    @classmethod
    def of(cls, opened: Opened, loaded: Loaded) -> "Key":
        return cls(opened.accelerators, opened.stand.rsplit(", namespace ", 1)[0], loaded.plan_digest, loaded.to)


@dataclass(frozen=True)
class Stored:
    """A stored run's samples. requests, until: the window its objectives were judged on."""

    run: str
    candidate: str
    key: Key
    requests: int
    until: float
    samples: Samples

    @classmethod
    def read(cls, folder: Path, load: str) -> "Stored":
        """Raises Unjudged: NO_DATA for what is no run with such a load that ended GO, UNANCHORED for changed samples."""
        if not (folder / RECORD).is_file():
            raise Unjudged(f"{folder.name} holds no {RECORD}", reason=Reason.NO_DATA)
        story = Story.read(folder)
        loaded, flow = story.loads.get(load), story.flows.get(load)
        if story.verdict is not Verdict.GO or story.opened is None or loaded is None or flow is None:
            raise Unjudged(f"{folder.name} is {story.verdict}, a GO with the load {load} is expected", reason=Reason.NO_DATA)
        try:
            samples = read(folder / loaded.samples, loaded.samples_digest)
        except (OSError, BadInput, HarnessError) as error:
            raise Unjudged(f"{folder.name}: {error}", reason=Reason.NO_DATA) from None
        key = Key.of(story.opened, loaded)
        return cls(story.run, story.opened.candidate_digest, key, flow.requests, flow.until, samples)


def comparable(stored: Sequence[Stored], key: Key) -> None:
    """Raises Unjudged NO_DATA unless all are of one candidate and of this key, and no run is there twice."""
    for one in stored:
        unlike = [name for name in Key.__annotations__ if getattr(one.key, name) != getattr(key, name)]
        if unlike:
            said = f"{getattr(one.key, unlike[0])} there, {getattr(key, unlike[0])} here"
            raise Unjudged(f"{one.run} is of another {unlike[0]}: {said}", reason=Reason.NO_DATA)
    if len({one.candidate for one in stored}) > 1:
        raise Unjudged("the stored runs are of several candidates: their noise is none of one", reason=Reason.NO_DATA)
    if len({one.run for one in stored}) < len(stored):
        raise Unjudged("a stored run is named twice: it would lessen their noise", reason=Reason.NO_DATA)

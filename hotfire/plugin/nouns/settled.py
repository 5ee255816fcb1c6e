"""settled: how the run ended."""

from hotfire.check import Findings, saw
from hotfire.plugin.run import Run
from hotfire.rollout.settle import Ending
from hotfire.words import Proof


class Settled:
    """The noun of suite 90; made after the decision was carried out."""

    def __init__(self, run: Run) -> None:
        self.run, self.ending = run, run.settle()

    def unproven(self) -> Findings:
        """Points of the proof that do not hold, and what went wrong on the way."""
        return unproven(self.ending, "the end")

    def seconds(self) -> float:
        """Until what was there before was back; where nothing had to be restored, until the new state was proven."""
        back, settled = self.ending.restored_s, self.ending.settled_s
        seconds = self.ending.took_s(self.run.settling_s, self.run.scenario.rollback.soak)
        saw("time", 1, {"restored": back, "settled": settled, "seconds": round(seconds, 3)})
        return seconds


def unproven(ending: Ending, what: str) -> Findings:
    """What does not hold of the end, or of a way back before it."""
    proven = [point for point, one in ending.proofs.items() if one.result is Proof.PROVEN]
    lines = ending.unproven
    saw("proof-point", len(proven) or len(lines), proven, "no point unproven")
    return Findings(lines, f"{len(lines)} points of {what} are not proven: {'; '.join(lines)[:300]}" if lines else "")

"""settled: how the run ended."""

from hotfire.check import Findings, saw
from hotfire.plugin.run import Run
from hotfire.words import Proof


class Settled:
    """The noun of suite 90; made after the decision was carried out."""

    def __init__(self, run: Run) -> None:
        self.run, self.ending = run, run.settle()

    def unproven(self) -> Findings:
        """Points of the proof that do not hold, and what went wrong on the way."""
        proven = [point for point, one in self.ending.proofs.items() if one.result is Proof.PROVEN]
        lines = self.ending.unproven
        saw("proof-point", len(proven) or len(lines), proven, "no point unproven")
        return Findings(lines, f"{len(lines)} points of the end are not proven: {'; '.join(lines)[:300]}" if lines else "")

    def seconds(self) -> float:
        """Until what was there before was back; where nothing had to be restored, until the new state was proven."""
        back = self.ending.restored_s
        seconds = self.run.settling_s - self.run.scenario.rollback.soak if back is None else back
        saw("time", 1, {"restored": back, "settled": self.ending.settled_s, "seconds": round(seconds, 3)})
        return max(seconds, 0.0)

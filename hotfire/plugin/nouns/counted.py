"""counted: what the pods of one API have counted while it served users."""

from hotfire.check import Findings, saw
from hotfire.errors import Unjudged
from hotfire.kube.wait import shielded
from hotfire.plugin.run import Run
from hotfire.runtimes import contract_of
from hotfire.scenario.serves import Serves
from hotfire.words import Reason

UNREAD_S = 15.0  # seconds without a reading after which nobody knows what users saw meanwhile


class Counted:
    """The noun of suite 88."""

    def __init__(self, run: Run, serves: Serves) -> None:
        self.run = run
        self.one = next(one for one in run.users.each if one.serves == serves)

    def burnt(self) -> Findings:
        """Which objective users' requests fail beyond doubt. Raises Unjudged where their pods did not tell, or where nobody
        but hotfire has asked them."""
        run, one = self.run, self.one
        with shielded():
            run.users.look()
            run.emit(one.event())
            if one.burnt is not None:
                return one.findings()
        untold = [part["kind"] for part, told in zip(one.parts, one.told, strict=True) if not told]
        if untold:
            contract = contract_of(one.serves.runtime)
            engine = contract.metrics_need and not one.serves.counted_by
            need = f"; {contract.title} needs {contract.metrics_need}" if engine else ""
            raise Unjudged(f"{one.meter.who} never told a counter of {', '.join(untold)}{need}", reason=Reason.NO_DATA)
        if one.unread_s > UNREAD_S:
            silent = f"the counters of {one.meter.who} could not be read for {one.unread_s:.0f} s"
            raise Unjudged(silent, reason=Reason.NO_DATA)
        ours = one.ours
        saw("user-request", max(one.counted - ours, 0), {"counted": one.counted, "hotfire's own": ours}, one.parts)
        return Findings()

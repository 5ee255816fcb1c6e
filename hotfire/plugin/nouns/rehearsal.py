"""rehearsal, drill: the way back, and the candidate once more after it."""

from hotfire.check import Findings, saw
from hotfire.errors import Breach, Unjudged
from hotfire.plugin.nouns.candidate import Candidate
from hotfire.plugin.nouns.settled import unproven
from hotfire.plugin.run import Run
from hotfire.record.events import GoesOn
from hotfire.words import Blame, Reason


class Rehearsal:
    """The noun of suites 65 and 86; its questions are asked in the order of the suite."""

    def __init__(self, run: Run, of: GoesOn) -> None:
        self.run, self.of = run, of
        self._back = False

    def unproven(self) -> Findings:
        """Go the way back; points of its proof that do not hold."""
        ending = self.run.rehearse(self.of)
        self._back = ending.safe
        return unproven(ending, f"the {self.of}")

    def not_serving_again(self, within: float) -> Findings:
        """Deploy once more; pods that are not Ready in time, others behind the Service, an API that does not answer."""
        if not self._back:
            raise Unjudged(f"the {self.of} was not proven: nothing is deployed over what is there", reason=Reason.NO_EFFECT)
        run = self.run
        run.again()
        candidate = Candidate(run.cluster, run.located, run.namespace, run.anchor, run.applied)
        if wrong := candidate.pods.not_ready(within) or candidate.strangers():
            return wrong
        try:
            saw("answer", 1, run.ask())
        except Breach as breach:
            return Findings([breach.message], blame=Blame.CANDIDATE)
        return Findings()

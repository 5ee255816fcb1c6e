"""counted: what the pods of one API have counted while it served users."""

import time

from hotfire.check import Findings, saw
from hotfire.errors import Halted
from hotfire.gates.users import PATIENCE
from hotfire.kube.wait import pause, shielded
from hotfire.plugin.run import Run
from hotfire.plugin.users import EVERY_S
from hotfire.scenario.serves import Serves


class Counted:
    """The noun of suite 88."""

    def __init__(self, run: Run, serves: Serves) -> None:
        self.run = run
        self.one = next(one for one in run.users.each if one.serves == serves)

    def burnt(self) -> Findings:
        """Which objective users' requests fail beyond doubt. Raises Unjudged where what was counted is no proof."""
        run, one, until = self.run, self.one, time.monotonic() + PATIENCE
        try:
            while one.burnt is None and run.users.serves and 0 < one.wanting_s() < until - time.monotonic():
                pause(EVERY_S)
        except Halted:
            if one.burnt is None:  # another one's
                raise
        with shielded():
            run.users.look()
            run.emit(told := one.event())
            if one.burnt is not None:
                one.failed = True
                return one.findings()
        one.check()
        saw("user-request", told.requests - told.ours, {"counted": told.requests, "hotfire's own": told.ours}, one.parts)
        one.passed = True
        return Findings()

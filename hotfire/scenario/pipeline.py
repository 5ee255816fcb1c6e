"""Pipeline mode in a scenario: what goes with it, and the commands that it takes."""

from collections.abc import Iterator

from hotfire.scenario.marks import Loc
from hotfire.scenario.model import Located, Scenario
from hotfire.words import Mode


def pipeline(scenario: Scenario, located: Located) -> Iterator[tuple[Loc, str]]:
    """What is wrong with `rollout`: hotfire cannot deploy a second time what it never deploys."""
    if not scenario.by_pipeline:
        for key in ("deploy_by", "owner_in"):
            if located.says("rollout", key):
                yield ("rollout", key), f"{key} goes with `by: pipeline`: hotfire deploys at once"
        if "suspend-sync" in scenario.consent:
            yield ("consent",), "suspend-sync goes with `rollout: {by: pipeline}`: nobody else deploys"
        return
    if scenario.mode is not Mode.PROMOTE:
        yield ("rollout", "by"), f"a pipeline deploys where something serves, `mode: promote` is expected, not {scenario.mode}"
    for key in ("rehearse", "drill"):
        if getattr(scenario.rollback, key):
            yield ("rollback", key), f"{key} deploys the candidate once more: not with `rollout: {{by: pipeline}}`"
    settle_by = scenario.rollback.settle_by
    if settle_by is not None and settle_by <= scenario.rollout.deploy_by:
        said = f"settle_by {settle_by:g}s is not after deploy_by {scenario.rollout.deploy_by:g}s"
        yield ("rollback", "settle_by"), f"{said}: nothing could be verified, more is expected"


def commands(scenario: Scenario) -> list[str]:
    """For `plan`."""
    by = f"{scenario.rollout.deploy_by:g} s"
    said = f"rollout: by a pipeline: `hotfire arm`, its own deploy within {by}, `hotfire verify RUN`, `hotfire settle RUN`"
    return [said] if scenario.by_pipeline else []

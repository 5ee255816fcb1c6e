"""Faults: does it come back from each declared failure, and did the failure really happen?"""

from hotfire.check import Evidence, check


@check("faults.control", needs=Evidence("control"), blames="harness", per="faults")
def test_the_witness_is_not_fooled(fault):
    """Aimed beside the target, the fault is not seen: a witness that always says yes proves nothing."""
    assert fault.seen_when_misaimed() == []


@check("faults.effect", needs=Evidence("witness"), blames="harness", per="faults")
def test_the_fault_really_happened(fault):
    """A witness other than the injector confirms the effect, on the intended target, inside the window."""
    fault.inject()
    assert fault.unconfirmed() == []


@check("faults.recovers", needs=Evidence("first-token"), per="faults")
def test_it_serves_again_in_time(fault):
    """From the proven effect to a correct answer on a fresh connection, at full strength, in the declared time."""
    assert fault.recovery_seconds() <= fault.asked.serving_again_within


@check("faults.errors", needs=Evidence("request"), per="faults")
def test_requests_after_the_return_succeed(fault):
    """Of the requests due after service was back, no more fail than declared."""
    assert fault.error_share() <= fault.asked.errors.value

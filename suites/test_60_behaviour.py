"""Behaviour: does it answer as its contract and the golden set say?"""

from hotfire.check import Evidence, check


@check("behaviour.identity", needs=Evidence("answer"), per="candidate.serves")
def test_the_asked_model_is_served(service):
    """The engine itself reports the model that the scenario names."""
    assert service.served_model() == service.serves.model


@check("behaviour.contract", needs=Evidence("answer"), per="candidate.serves")
def test_it_answers_by_its_contract(service):
    """A plain request gets a whole answer: status, content, finish reason, token counts."""
    assert service.contract_breaches() == []


@check("behaviour.streams", needs=Evidence("answer"), per="candidate.serves")
def test_a_stream_ends_as_it_must(service):
    """A stream has no error event, a finish reason and the end marker of its runtime."""
    assert service.stream_breaches() == []


@check("behaviour.golden", needs=Evidence("golden-case"), per="candidate.serves", when="behaviour.golden")
def test_the_golden_answers_are_given(service):
    """Each golden prompt gets its expected answer."""
    assert service.wrong_golden_answers() == []

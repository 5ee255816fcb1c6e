"""Secrets: is each one where it must be, and nowhere else?"""

from hotfire.check import Evidence, check


@check("secrets.injected", needs=Evidence("secret", per="serving-pod"), row="secrets outside images", per="injected")
def test_the_server_has_the_secret(candidate, secret):
    """Each serving container holds the Secret's value where the scenario says."""
    assert candidate.pods.without_secret(secret) == []


@check("secrets.absent", needs=Evidence("place"), row="secrets outside images", per="injected")
def test_nobody_else_can_read_the_secret(candidate, secret):
    """The value is in none of the declared places: logs, events, metrics, manifests."""
    assert candidate.places_leaking(secret) == []

"""Deploy: is what was put there exactly what was asked for?"""

from hotfire.check import Evidence, check


@check("deploy.exact", needs=Evidence("object"))
def test_what_is_live_is_what_the_manifests_say(rollout):
    """Every object equals its manifest as the API server itself would default it; nothing of an older one is left in it."""
    rollout.apply()
    assert rollout.differences() == []


@check("deploy.pull-secret", needs=Evidence("refused-pull", per="image"), row="private image pull", when="pulls")
def test_the_image_is_private(rollout):
    """A pod without the pull secret is refused the candidate's image."""
    assert rollout.images_pulled_without_secret() == []

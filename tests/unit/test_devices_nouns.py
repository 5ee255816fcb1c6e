"""Devices: what was granted is read where a device plugin says it, and never guessed from what says something else."""

from collections.abc import Iterator

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.exec import Ended
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.words import Reason
from tests.answers import NAMESPACE, Answers, answering, located, pod


@pytest.fixture
def api() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


def granted(api: Answers, monkeypatch: pytest.MonkeyPatch, environ: str, **limits: str) -> object:
    one = pod("a")
    one["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi", **limits}}
    api.serving(one)
    monkeypatch.setattr("hotfire.plugin.nouns.pods.run_in", lambda *_, **__: Ended(0, environ, "", ""))
    with running("scheduling.devices", CheckSpec("scheduling.devices", Evidence("device-grant")), lambda _: None):
        return CandidatePods(api.cluster, NAMESPACE, located().scenario).granted()


GPU = {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize(("value", "count"), [("GPU-1,GPU-2", 2), ("GPU-1", 1), ("0,1,2", 3)])
def test_devices_are_counted_by_their_names(api: Answers, monkeypatch: pytest.MonkeyPatch, value: str, count: int) -> None:
    environ = f"PATH=/bin\0NVIDIA_VISIBLE_DEVICES={value}\0"
    assert granted(api, monkeypatch, environ, **GPU) == {"a": {"nvidia.com/gpu": count}}


@pytest.mark.parametrize("value", ["void", "none", ""])
def test_a_grant_of_nothing_is_no_evidence(api: Answers, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(Unjudged, match="there was no device-grant to look at"):
        granted(api, monkeypatch, f"NVIDIA_VISIBLE_DEVICES={value}\0", **GPU)


@pytest.mark.parametrize("value", ["all", "/var/run/nvidia-container-devices"])
def test_what_an_image_says_of_itself_is_no_grant(api: Answers, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(Unjudged, match=f"NVIDIA_VISIBLE_DEVICES is {value}: what was granted is not told") as caught:
        granted(api, monkeypatch, f"NVIDIA_VISIBLE_DEVICES={value}\0", **GPU)
    assert caught.value.reason is Reason.NO_DATA


@pytest.mark.parametrize("more", [{"rdma/hca": "1"}, {"amd.com/gpu": "1"}, {"nvidia.com/mig-1g.5gb": "1"}])
def test_a_resource_that_the_variable_does_not_tell_is_not_counted_by_it(
    api: Answers, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    with pytest.raises(Unjudged, match=f"{next(iter(more))}.* is not told inside it"):
        granted(api, monkeypatch, "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2\0", **GPU, **more)


def test_an_environment_that_may_not_be_read_is_no_grant_of_nothing(api: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pod("a")
    one["spec"]["containers"][0]["resources"] = {"limits": GPU}
    api.serving(one)
    monkeypatch.setattr("hotfire.plugin.nouns.pods.run_in", lambda *_, **__: Ended(1, "", "Permission denied", ""))
    with (
        running("scheduling.devices", CheckSpec("scheduling.devices", Evidence("device-grant")), lambda _: None),
        pytest.raises(Unjudged, match="Permission denied"),
    ):
        CandidatePods(api.cluster, NAMESPACE, located().scenario).granted()

"""The way back as whole runs go it: rehearsed, drilled, settled from the record; and refused where it would not be open."""

from typing import Any

from hotfire.kube.client import Cluster, Ref
from hotfire.stand.images import build, pull_secret, push_layout
from tests.neighbour import neighbour

runs = neighbour("tests/stand/test_run")
Place = runs.Place
hotfire, service, started = runs.hotfire, runs.service, runs.started


def test_a_rehearsed_candidate_is_confirmed(place: Place, new) -> None:
    """A, B, A, B, by the record: the way back is proven in twelve points before the load begins."""
    rollback = {"within": "60s", "soak": "1s", "rehearse": True}
    ended = place.run(service(), new(), scenario={"rollback": rollback})
    assert (ended.code, ended.verdict["verdict"]) == (0, "GO"), ended.output
    assert {ended.check(name)["outcome"] for name in ("rollback.rehearsed", "rollback.returns")} == {"PASS"}
    said = [event for event in ended.events if event["type"] in ("changed", "proved", "loaded")]
    states = [event["state"] for event in said if event["type"] == "changed"]
    rehearsal = ["RESTORING", "RESTORED", "APPLYING", "TESTING"]
    assert states == ["ARMED", "APPLYING", "TESTING", *rehearsal, "CONFIRMED"] and place.ask().startswith("new")
    loaded = next(n for n, event in enumerate(said) if event["type"] == "loaded")
    assert [event["of"] for event in said[:loaded] if event["type"] == "proved"] == ["rehearsal"] * 12


def test_a_run_killed_after_its_commit_is_settled_from_its_record(place: Place, new) -> None:
    process = started(place, place.command(service(), new()), "state CONFIRMED")
    process.kill()
    process.wait()
    ended = place.ended(process.returncode, "")
    assert "hotfire settle" in hotfire(place, "resume").stderr and not (ended.folder / "verdict.json").exists()
    settled = hotfire(place, "settle", str(ended.folder))
    assert (settled.returncode, ended.verdict["verdict"]) == (0, "GO"), settled.stdout + settled.stderr
    assert place.ask().startswith("new") and place.lease() == ""


def test_a_certify_that_fails_is_drilled_all_the_same(place: Place, new, cluster: Cluster, gone: str) -> None:
    """What its pods said of the failure is kept before the drill takes them away."""
    stand = {"namespace": gone, "create": True, "secrets_from": place.name, "accelerators": "simulated"}
    ended = place.run(service(), new("--ttft", "1200ms"), scenario={"stand": stand, "mode": "certify", "users": None})
    assert (ended.code, ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), ended.output
    assert {ended.check(name)["outcome"] for name in ("drill.way-back", "drill.returns", "settle.restored")} == {"PASS"}
    assert any("server" in one.name for one in (ended.folder / "bundle-drill").rglob("*"))
    assert cluster.find(Ref("v1", "Namespace", "", gone)) is None


def baseline(place: Place, image: str) -> None:
    """One that every new pod pulls anew."""
    made = runs.deployment(image, "--answer", "old old old old")
    made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    before = place.kubectl("get", "pods", "-o", "name").split()
    place.apply(made)
    place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    place.kubectl("wait", "--for=delete", *before, "--timeout=60s")


def refused(place: Place, new: Any) -> str:
    """What the run says, which has changed nothing."""
    before = place.serving()
    ended = place.run(service(), new())
    assert (ended.code, ended.check("deploy.exact")["blame"]) == (21, "platform"), ended.output
    assert "tiny could not come back, nothing was changed: " in ended.output and place.serving() == before
    return ended.output


def test_a_baseline_that_its_registry_would_refuse_is_not_replaced(place: Place, new, embedded) -> None:
    """Its pods run, and nobody could start another: the Secret that opened the registry holds a wrong password by now."""
    baseline(place, place.image)
    place.apply(pull_secret(embedded.registry.model_copy(update={"password": "wrong"}), "registry"))
    assert "401" in refused(place, new)


def test_a_tag_that_means_another_image_by_now_is_no_way_back(place: Place, new, embedded, terminal) -> None:
    push_layout(embedded.registry, build("tiny", terminal), "tiny", "floats")
    baseline(place, f"{embedded.registry.address}/tiny:floats")
    other = push_layout(embedded.registry, build("hotfire", terminal), "tiny", "floats")
    assert f"tiny:floats means {other.partition('@')[2]} now" in refused(place, new)

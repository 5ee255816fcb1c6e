"""rollout: the change itself, and whether what is there is what was asked for."""

from hotfire.check import Findings, saw
from hotfire.kube.client import Object
from hotfire.plugin.run import Run
from hotfire.rollout.probes import probe_pod, pulled
from hotfire.words import Blame

REFUSED = ("unauthorized", "authentication required", "authorization failed", "denied", "no basic auth", "401", "403")


class RolloutNoun:
    """The noun of suite 20."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def apply(self) -> None:
        """Store the way back, then deploy, unless a pipeline has done so. Raises Breach when the server refuses an object."""
        run = self.run
        if not run.scenario.by_pipeline:
            run.arm()
        run.way_in()
        if not run.scenario.by_pipeline:
            run.deploy()

    def differences(self) -> Findings:
        """Where what is live is not what the manifests ask for."""
        compared, lines = self.run.rollout.differences()
        saw("object", compared, lines, "as a dry-run create of the manifests")
        blame = Blame.PLATFORM if self.run.scenario.by_pipeline else None  # the candidate is what the manifests say
        return Findings(lines, f"{len(lines)} differences in {compared} objects" if lines else "", blame)

    def images_pulled_without_secret(self) -> Findings:
        """Serving images that a pod without any pull secret gets: the registry does not guard them."""
        asked = self._images()
        saw("image", len(asked), sorted(asked))
        found = Findings(blame=Blame.PLATFORM)
        run = self.run
        for number, image in enumerate(sorted(asked)):
            with probe_pod(run.cluster, run.namespace, run.anchor, f"pull-{number}", image=image, always_pull=True) as probe:
                digest, why = pulled(run.cluster, probe, image)
            if not any(word in why for word in REFUSED):
                found.append(f"{image}: {why or f'pulled as {digest}'}, a refusal is expected")
                continue
            saw("refused-pull", 1, {image: why})
        return found

    def _images(self) -> set[str]:
        """Of the serving containers, as the live pods run them: each is pulled from somewhere."""
        images: set[str] = set()
        served = {(serves.kind, serves.name) for serves in self.run.scenario.candidate.serves}
        for item in self.run.located.objects:
            obj: Object = dict(item)
            if (obj["kind"], obj["metadata"]["name"]) in served:
                images |= {one["image"] for one in obj["spec"]["template"]["spec"]["containers"]}
        return images

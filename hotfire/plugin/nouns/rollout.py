"""rollout: the change itself, and whether what is there is what was asked for."""

import re

from hotfire.check import Findings, saw
from hotfire.kube.client import Object
from hotfire.plugin.run import Run
from hotfire.rollout.probes import probe_pod, pulled
from hotfire.scenario.images import templates
from hotfire.words import Blame

NAMES = re.compile(r"\S*(?:/|sha256:)\S*")  # images, URLs and paths: what is in a name or a digest is no answer
REFUSED = re.compile(  # the words of containerd, CRI-O and Docker; not a port, nor the kernel's "permission denied"
    r"\b(?:unauthorized|forbidden|authentication required|authorization failed|no basic auth|insufficient_scope"
    r"|(?<!permission )denied|(?<!:)40[13]$)\b",
    re.IGNORECASE,
)


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
            if not refused(why, image):
                found.append(f"{image}: {why or f'pulled as {digest}'}, a refusal is expected")
                continue
            saw("refused-pull", 1, {image: why})
        return found

    def _images(self) -> set[str]:
        """Of the serving containers, as the live pods run them: each is pulled from somewhere."""
        served = {(serves.kind, serves.name) for serves in self.run.scenario.candidate.serves}
        objects: list[Object] = [dict(item) for item in self.run.located.objects]
        mine = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) in served]
        return {one["image"] for obj in mine for template in templates(obj) for one in template["spec"]["containers"]}


def refused(why: str, image: str) -> bool:
    """Whether a kubelet's word of a pull says that the registry wanted credentials; a network that failed refuses nobody."""
    return bool(REFUSED.search(NAMES.sub("", why.replace(image, ""))))

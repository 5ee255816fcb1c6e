"""What a journal may hold to undo a run: a closed set of types. Data, never code; never a Secret's value."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from hotfire.kube.client import Ref


class Strict(BaseModel):
    """Frozen; an unknown key is an unknown undo, and is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OnObject(Strict):
    """About one object."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def ref(self) -> Ref:
        return Ref(self.api_version, self.kind, self.namespace, self.name)

    @classmethod
    def of(cls, ref: Ref, **more: object) -> Self:
        """An entry about that object."""
        fields = {"api_version": ref.api_version, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
        return cls.model_validate({**fields, **more})


class PutBack(OnObject):
    """The object is about to be overwritten: its snapshot goes back by PUT."""

    op: Literal["put-back"] = "put-back"
    uid: str


class DeleteAdded(OnObject):
    """An object of this name is about to be created with the run's label; names are fixed, so a crash between this entry
    and the creation is resolved by looking it up. It is deleted by UID, and only if it carries the label.

    labels: those that select a workload's pods, to look for them when the workload is gone. own: a helper of the run's, which
    goes even after CONFIRMED. pipelines: not the run creates it but its pipeline, which writes no label: what has this name
    goes, for nothing had it when the run was armed.
    """

    op: Literal["delete-added"] = "delete-added"
    labels: dict[str, str] = Field(default_factory=dict)
    own: bool = False
    pipelines: bool = False


class DeleteNamespace(Strict):
    """A namespace that the run creates. uid is empty in the entry before the creation: a crash between this entry and the next
    is resolved by the run's label on the namespace of that name."""

    op: Literal["delete-namespace"] = "delete-namespace"
    name: str
    uid: str = ""


class ReplacePods(OnObject):
    """Pods of this workload run, or may run, on configuration that the candidate edits in place: a restored ConfigMap does
    not reach a process that has read the edited one. uids: None until the configuration is back, then those to delete."""

    op: Literal["replace-pods"] = "replace-pods"
    uids: tuple[str, ...] | None = None


class SuspendSync(OnObject):
    """The sync of this owner is about to be suspended, before anything is put back. resume: the merge patch that undoes it, by
    whoever has mended the owner's source: a run that undid it would have the candidate applied again."""

    op: Literal["suspend-sync"] = "suspend-sync"
    resume: dict[str, Any]


class FaultBegun(Strict):
    """A fault is about to be injected; open until a FaultEnded of that name follows.

    pod, uid: where it is confined to one pod; it ends with that pod.
    """

    op: Literal["fault-begun"] = "fault-begun"
    fault: str
    pod: str = ""
    uid: str = ""


class FaultEnded(Strict):
    """The fault's undo was witnessed."""

    op: Literal["fault-ended"] = "fault-ended"
    fault: str


class Other(OnObject):
    """A workload that is neither Deployment nor StatefulSet: which pods are its, how many are Ready with the candidate, and how
    many were before the run (`had`)."""

    pods: dict[str, str]
    ready: int
    had: int = 0

    @property
    def before(self) -> Self:
        """With as many as were before the run."""
        return self.model_copy(update={"ready": self.had})


class Asked(Strict):
    """How one API is asked, so that whoever restores can ask what served before: no URL, which only the run's machine knows."""

    service: str
    port: int | str | None
    runtime: str
    model: str
    api: str


Entry = Annotated[
    PutBack | DeleteAdded | DeleteNamespace | ReplacePods | SuspendSync | FaultBegun | FaultEnded, Field(discriminator="op")
]

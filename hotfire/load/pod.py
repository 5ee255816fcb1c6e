"""A carrier in a pod: the same lines as a process's, by `attach`; plan and samples travel in them too.

The pod's input ends when this process does, whatever the cause, and the carrier with it.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotfire.kube.attach import Attached
from hotfire.kube.client import ApiError, Cluster, Ref
from hotfire.load.plan import Plan
from hotfire.load.wire import Message

CONTAINER = "load"


class Pod:
    """A wire to the carrier that is the only process of a pod."""

    here = False

    def __init__(self, cluster: Cluster, ref: Ref, plan: Plan, ca: str = "") -> None:
        """Attach and send the plan, and the certificates of a file. Raises ApiError."""
        self._cluster, self._ref = cluster, ref
        self._attached = Attached(cluster, ref.namespace, ref.name, CONTAINER)
        packed = base64.b64encode(zlib.compress(plan.path.read_bytes())).decode()
        self.tell({"plan": packed, "digest": plan.digest, "ca": Path(ca).read_text(encoding="ascii") if ca else ""})

    @property
    def alive(self) -> bool:
        return self._attached.open

    def tell(self, message: Mapping[str, Any]) -> None:
        self._attached.send(json.dumps(message).encode())

    def lines(self) -> Iterator[Message]:
        for line in self._attached.lines():
            with suppress(ValueError):  # what libraries print is no message
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message

    def ending(self, within_s: float) -> str:
        """By the pod's status; what it said last by its log."""
        try:
            pod = self._cluster.find(self._ref)
            if pod is None:
                return f"the end of its pod {self._ref.name}"
            for status in (pod.get("status") or {}).get("containerStatuses") or ():
                if ended := status["state"].get("terminated"):
                    return f"exit code {ended['exitCode']} ({ended.get('reason', '')}): {self._said()}"
            return f"a broken connection to its pod {self._ref.name}, {(pod.get('status') or {}).get('phase')}"
        except ApiError as error:
            return f"the loss of its pod {self._ref.name}: {error.message}"

    def _said(self) -> str:
        query = {"container": CONTAINER, "tailLines": "20"}
        text = self._cluster.text("GET", self._cluster.path(self._ref, "log"), query)
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
        return lines[-1][:300] if lines else "it said nothing"

    def kill(self) -> None:
        """Its input ends, and it with it."""
        self._attached.close()

    def close(self) -> None:
        self._attached.close()

"""What the API server refuses, by class.

HarnessError
└── ApiError        any answer that is not 2xx; UnknownKind: the server has no such kind
    ├── Forbidden   401 and 403
    ├── NotFound    404
    ├── Conflict    409: a stale resourceVersion, a failed precondition, a name that is taken
    ├── Gone        410: a resourceVersion that was compacted
    ├── Invalid     400 and 422: strict field validation, admission, a malformed object
    ├── TooMany     429
    └── Unreachable no answer, or one that names no result: 0, 5xx but for 501, which no waiting changes
"""

import json
from typing import Any

from hotfire.errors import HarnessError


class ApiError(HarnessError):
    """status: HTTP code, 0 without an answer; reason: the Status' word for it; body: the Status object, if it was one."""

    def __init__(self, status: int, reason: str, message: str, body: dict[str, Any] | None = None) -> None:
        self.status, self.reason, self.message, self.body = status, reason, message, body or {}
        super().__init__(message)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later without anything being changed."""
        return False


class UnknownKind(ApiError):
    """Discovery knows no such kind: never taken for "the object is absent"."""


class Forbidden(ApiError):
    """Not authenticated or not allowed; the message names verb and resource."""


class NotFound(ApiError):
    """No such object."""


class Conflict(ApiError):
    """Somebody was faster, or a precondition does not hold; never retried blindly."""


class Gone(ApiError):
    """List again."""

    @property
    def passing(self) -> bool:
        return True


class Invalid(ApiError):
    """The object is refused; the message is the server's, which names the field."""


class TooMany(ApiError):
    """Throttled; an eviction that a PodDisruptionBudget forbids answers this too."""

    @property
    def passing(self) -> bool:
        return True


class Unreachable(ApiError):
    """No answer, or a server that is not well. A write that ended so may have happened: look before going on."""

    @property
    def passing(self) -> bool:
        return True


CLASSES: dict[int, type[ApiError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid, 429: TooMany,
    501: ApiError,
}  # fmt: skip


def refused(status: int, text: str, what: str) -> ApiError:
    """The exception for an answer: its message is one line, `what: the server's words`."""
    body = status_object(text)
    reason = str(body.get("reason") or status)
    said = " ".join(str(body.get("message") or text[:300].strip() or reason).split())
    kind = CLASSES.get(status, Unreachable if status >= 500 else ApiError)
    if status == 500 and "field not declared in schema" in said:
        kind = Invalid  # an unknown field in an apply patch answers 500 (facts: ecosystem 3.2)
    return kind(status, reason, f"{what}: {said}", body)


def status_object(text: str) -> dict[str, Any]:
    """The Status that an error body holds; empty if it holds none."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}

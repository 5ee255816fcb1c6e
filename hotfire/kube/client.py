"""One client for the cluster: raw JSON objects, exact writes, typed refusals, a deadline on every call.

Built on the official client's REST layer (kubeconfig, credentials, TLS, proxies); its models are not used, because a
round trip through them drops what they do not know. Only reads are repeated: what a failed write did is for the caller
to look up.
"""

import json
import os
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from hotfire.errors import BadInput, HarnessError
from hotfire.kube.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooMany,
    UnknownKind,
    Unreachable,
    refused,
)
from hotfire.kube.wait import aside, pause

__all__ = [
    "JSON",
    "JSON_PATCH",
    "MERGE",
    "ApiError",
    "Cluster",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "Object",
    "Ref",
    "TooMany",
    "UnknownKind",
    "Unreachable",
    "current_kubeconfig",
]  # fmt: skip

Object = dict[str, Any]
Objects = list[Object]
Query = Mapping[str, str] | Sequence[tuple[str, str]]

MANAGER = "hotfire"
JSON, JSON_PATCH, MERGE = "application/json", "application/json-patch+json", "application/merge-patch+json"
BIGGEST = 64 << 20  # bytes of one answer; a list beyond it is a mistake of ours
PAGE = 500  # objects in one answer of a list


@dataclass(frozen=True)
class Ref:
    """Names one object; namespace is empty for cluster-scoped kinds. `str()` is `deployment/llama`."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Self:
        """The name that the object carries itself."""
        meta = obj["metadata"]
        return cls(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"

    @property
    def whole(self) -> str:
        """`Application argocd/llama`: for an object of another namespace."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Cluster:
    """An API server as one identity. Safe to use from several threads."""

    def __init__(self, api: ApiClient, context: str, timeout: float = 10) -> None:
        self.context, self.timeout, self.api = context, timeout, api
        self.server = str(api.configuration.host)
        self.version = ""
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None, timeout: float = 10, first: float = 10) -> Self:
        """Read the kubeconfig (or, inside a pod, its ServiceAccount) and ask the server for its version.

        timeout: seconds for each call, over its retries; first: for this one. Raises BadInput with one line, caused by the
        ApiError where the server answered so, or not at all.
        """
        configuration = Configuration()
        configuration.retries = False  # urllib3 would repeat PUT and DELETE, and sleep as long as Retry-After says
        configuration.socket_options = tcp_keepalive_socket_options(idle=5, interval=3, count=3)
        configuration.connection_pool_maxsize = 32
        name = _credentials(configuration, kubeconfig, context)
        cluster = cls(ApiClient(configuration), name, timeout)
        where = f"API server {cluster.server} (context {name})"
        try:
            cluster.version = str(cluster.raw("GET", "/version", timeout=first)["gitVersion"])
        except Forbidden as error:
            raise BadInput(f"{where}: refuses the credentials: {error.message}") from error
        except ApiError as error:
            raise BadInput(f"{where}: unreachable: {error.message}") from error
        return cluster

    # -- objects --------------------------------------------------------------------------------------------------

    def get(self, ref: Ref, subresource: str = "") -> Object:
        """The live object. Raises NotFound."""
        return self.raw("GET", self.path(ref, subresource), what=f"get {ref}")

    def find(self, ref: Ref) -> Object | None:
        """The live object, or None when there is none of that name."""
        try:
            return self.get(ref)
        except NotFound:
            return None

    def list(self, api_version: str, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> Objects:
        """All that match, over all pages; items get apiVersion and kind, which the server leaves out."""
        return self.listing(api_version, kind, namespace, labels, fields)[0]

    def listing(
        self, api_version: str, kind: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """Like `list`, with the resourceVersion to watch from."""
        path = self.collection(api_version, kind, namespace)
        items: list[Object] = []
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        while True:
            page = self.raw("GET", path, query=query, what=f"list {kind.lower()}s")
            items += [{"apiVersion": api_version, "kind": kind, **item} for item in page.get("items") or ()]
            if not (more := page["metadata"].get("continue")):
                return items, str(page["metadata"].get("resourceVersion", ""))
            query["continue"] = more

    def create(self, obj: Object, dry_run: bool = False) -> Object:
        """POST with strict field validation. Raises Conflict when the name is taken, Invalid naming the field."""
        path = self.collection(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))
        return self.raw("POST", path, obj, _writing(dry_run), what=f"create {_named(obj)}")

    def replace(self, obj: Object, dry_run: bool = False, subresource: str = "") -> Object:
        """PUT with strict field validation. Raises Conflict when the object has moved on since it was read."""
        if not obj["metadata"].get("resourceVersion"):
            raise HarnessError(f"replace {_named(obj)}: without metadata.resourceVersion it would overwrite blindly")
        return self.raw("PUT", self.path(Ref.of(obj), subresource), obj, _writing(dry_run), what=f"replace {_named(obj)}")

    def patch(self, ref: Ref, body: Any, content_type: str = MERGE, dry_run: bool = False, subresource: str = "") -> Object:
        """PATCH; body: a list of operations for JSON_PATCH, an object for MERGE. No precondition unless body has one."""
        if (content_type == JSON_PATCH) != isinstance(body, list):
            raise HarnessError(f"patch {ref}: {content_type} does not go with a {type(body).__name__}")
        path = self.path(ref, subresource)
        return self.raw("PATCH", path, body, _writing(dry_run), content_type=content_type, what=f"patch {ref}")

    def delete(
        self,
        ref: Ref,
        *,
        uid: str,
        resource_version: str | None = None,
        grace: int | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> None:
        """DELETE exactly this object. Raises NotFound when it is gone, Conflict when the name is another object's now.

        grace: seconds; None leaves it to the object.
        """
        if not uid:
            raise HarnessError(f"delete {ref}: without a UID it could hit another object of that name")
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": uid, **({"resourceVersion": resource_version} if resource_version else {})},
            **({} if grace is None else {"gracePeriodSeconds": grace}),
            **({"dryRun": ["All"]} if dry_run else {}),
        }
        self.raw("DELETE", self.path(ref), options, what=f"delete {ref}")

    # -- questions ------------------------------------------------------------------------------------------------

    def can(
        self, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = "", subresource: str = ""
    ) -> bool:
        """Whether this identity may (SelfSubjectAccessReview). resource: plural, as in a Role."""
        attributes = {
            "verb": verb, "resource": resource, "group": group, "namespace": namespace, "name": name,
            "subresource": subresource,
        }  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self.raw("POST", path, review, what=f"ask whether {verb} {resource} is allowed", repeat=True)
        return answer.get("status", {}).get("allowed") is True

    def server_time(self) -> datetime:
        """The server's clock, rounded down to a second as its status stamps are (Date header)."""
        _, headers = self._ask("GET", "/version", what="read the server's clock", repeat=True)
        if "Date" not in headers:
            raise HarnessError(f"{self.server} answers without a Date header")
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)

    def clock_offset(self) -> tuple[float, float]:
        """Server clock less local clock in seconds, and its half-width: half a second of rounding, half the round trip."""
        before = time.monotonic()
        local = datetime.now(UTC)
        server = self.server_time()
        trip = time.monotonic() - before
        return (server - local).total_seconds() + 0.5 - trip / 2, 0.5 + trip / 2

    def resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural and whether it is namespaced, by discovery, cached. Raises UnknownKind."""
        if kind not in self._kinds.get(api_version, ()):
            try:
                found = self.raw("GET", _group(api_version), what=f"discover {api_version}")
            except NotFound:
                found = {}
            self._kinds[api_version] = {
                item["kind"]: (item["name"], item["namespaced"])
                for item in found.get("resources") or ()
                if "/" not in item["name"]
            }
        try:
            return self._kinds[api_version][kind]
        except KeyError:
            raise UnknownKind(404, "UnknownKind", f"{self.server} has no kind {kind} in {api_version}") from None

    def collection(self, api_version: str, kind: str, namespace: str = "") -> str:
        """The URL path of all objects of a kind; of all namespaces when none is named."""
        plural, namespaced = self.resource(api_version, kind)
        inside = f"/namespaces/{urllib.parse.quote(namespace, safe='')}" if namespaced and namespace else ""
        return f"{_group(api_version)}{inside}/{plural}"

    def path(self, ref: Ref, subresource: str = "") -> str:
        """The URL path of an object."""
        if not ref.name or (self.resource(ref.api_version, ref.kind)[1] and not ref.namespace):
            raise HarnessError(f"{ref} lacks a name or a namespace")
        path = f"{self.collection(ref.api_version, ref.kind, ref.namespace)}/{urllib.parse.quote(ref.name, safe='')}"
        return f"{path}/{subresource}" if subresource else path

    # -- plain requests -------------------------------------------------------------------------------------------

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Query | None = None,
        *,
        content_type: str = JSON,
        timeout: float | None = None,
        repeat: bool | None = None,
        what: str = "",
    ) -> Object:
        """One request, its answer as JSON. repeat: try again while it fails in passing (default: for GET alone).

        timeout: seconds in all. Raises ApiError; Unreachable after a write means: unknown whether it happened.
        """
        text, _ = self._ask(method, path, body, query, content_type, timeout, repeat, what)
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unreachable(0, "NotJson", f"{what or path}: the answer is not a JSON object: {text[:80]!r}")
        return found

    def text(
        self, method: str, path: str, query: Query | None = None, *, limit: int = BIGGEST, timeout: float | None = None
    ) -> str:
        """One request, its answer as text, cut after `limit` bytes (logs, metrics)."""
        return self._ask(method, path, None, query, JSON, timeout, None, "", limit)[0]

    def stream(self, path: str, query: Query | None = None, *, read_timeout: float) -> urllib3.BaseHTTPResponse:
        """An open answer for a thread of the caller's: `shutdown()` from another thread ends it. Never repeated.

        read_timeout: seconds without a byte after which reading raises. Raises ApiError.
        """
        return self._send("GET", path, None, query, JSON, urllib3.Timeout(connect=self.timeout, read=read_timeout), path)

    def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Query | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
        repeat: bool | None = None,
        what: str = "",
        limit: int = BIGGEST,
    ) -> tuple[str, Mapping[str, str]]:
        what = what or f"{method} {path}"
        again = method == "GET" if repeat is None else repeat
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        wait = 0.1

        def once() -> tuple[str, Mapping[str, str]]:
            left = max(0.05, deadline - time.monotonic())
            response = self._send(method, path, body, query, content_type, urllib3.Timeout(total=left), what)
            return _read(response, deadline, limit, what), response.headers

        while True:
            try:
                # a write is never abandoned half way for a signal: nobody would know whether it happened
                return aside(once, deadline - time.monotonic() + 0.1, what) if again else once()
            except ApiError as error:
                if not again or not error.passing or error.status == 410 or time.monotonic() + wait >= deadline:
                    raise
            pause(wait)
            wait = min(2 * wait, 1.0)

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Query | None,
        content_type: str,
        timeout: urllib3.Timeout,
        what: str,
    ) -> urllib3.BaseHTTPResponse:
        """The request through the official client's pool; the answer is open and 2xx."""
        headers = {"Accept": JSON, **({} if body is None else {"Content-Type": content_type})}
        _, url, headers, _, _ = self.api.param_serialize(method, path, header_params=headers, auth_settings=["BearerToken"])
        pairs = query.items() if isinstance(query, Mapping) else query or ()
        if encoded := urllib.parse.urlencode([(key, value) for key, value in pairs if value != ""]):
            url += f"?{encoded}"
        payload = None if body is None else json.dumps(body).encode()
        pool = self.api.rest_client.pool_manager
        try:
            response: urllib3.BaseHTTPResponse = pool.request(
                method, url, body=payload, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise Unreachable(0, type(error).__name__, f"{what}: {_cause(error)}") from None
        if not 200 <= response.status < 300:
            text = _read(response, time.monotonic() + self.timeout, 1 << 20, what)
            raise refused(response.status, text, what)
        return response


def _read(response: urllib3.BaseHTTPResponse, deadline: float, limit: int, what: str) -> str:
    """The body by `deadline`: the pool's own timeout starts again with every byte."""
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in response.stream(1 << 16, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size >= limit:
                response.close()
                break
            if time.monotonic() > deadline:
                response.close()
                raise Unreachable(0, "Timeout", f"{what}: the answer was not complete in time")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(0, type(error).__name__, f"{what}: {_cause(error)}") from None
    response.release_conn()
    return b"".join(chunks)[:limit].decode(errors="replace")


def _cause(error: BaseException) -> str:
    """One line, without the pool's object addresses."""
    if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no answer in time"
    said = str(error).rpartition(": ")[2] if isinstance(error, urllib3.exceptions.NewConnectionError) else str(error)
    return " ".join(said.split())[:200] or type(error).__name__


def _writing(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}


def _group(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _named(obj: Mapping[str, Any]) -> str:
    meta = obj["metadata"]
    return f"{obj['kind'].lower()}/{meta.get('name') or meta.get('generateName', '')}"


def current_kubeconfig(kubeconfig: str | None) -> Sequence[Path]:
    """The files in force: the one named, else those of $KUBECONFIG, else ~/.kube/config. Raises BadInput without any."""
    named = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    files = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    if not any(file.is_file() for file in files):
        told = ", ".join(map(str, files))
        raise BadInput(f"{told}: no such kubeconfig: name one with --kubeconfig, or `hotfire stand up` for one of ours")
    return [file for file in files if file.is_file()]


def _credentials(configuration: Configuration, kubeconfig: str | None, context: str | None) -> str:
    """Fill `configuration` and return the context's name; the user's file is never written to."""
    try:
        files = current_kubeconfig(kubeconfig)
    except BadInput:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return "in-cluster"
        raise
    joined = os.pathsep.join(map(str, files))
    try:
        name = context or _current(joined)
        load_kube_config(joined, name, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        known = _contexts(joined)
        if context is not None and known and context not in known:
            raise BadInput(f"{joined}: no context {context!r}: {', '.join(known)}") from None
        raise BadInput(f"{joined}: {' '.join(str(error).split())}") from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:  # the loader trusts the file's shape
        raise BadInput(f"{joined}: not a kubeconfig: {' '.join(str(error).split())[:200]}") from None
    return name


def _contexts(files: str) -> list[str]:
    try:
        contexts, _ = list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
    except (ConfigException, TypeError, AttributeError):
        return []
    return [str(item["name"]) for item in contexts]


def _current(files: str) -> str:
    """The current context's name. Raises ConfigException when there is none."""
    return str(list_kube_config_contexts(files)[1]["name"])  # type: ignore[no-untyped-call]

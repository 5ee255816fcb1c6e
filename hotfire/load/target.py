"""Where the load goes, and how."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from hotfire.errors import BadInput
from hotfire.load.dialects import DIALECTS

TOKEN, CA = "HOTFIRE_LOAD_TOKEN", "ca.pem"  # of a carrier in a pod: the key in its environment, certificates to trust
PORT = 5557  # of the one that leads several


@dataclass(frozen=True)
class Target:
    """One API of the candidate.

    url: scheme, host and port, with a base path if there is one; api: a key of DIALECTS; timeout_s: a request without its
    end so long after it was sent has failed; slots: requests in flight at most, what is due beyond is `backlog`; max_age_s:
    a connection is replaced after this long, 0 gives each request one of its own; scale_s: the tightest latency that is
    judged, which says how late the client may be; served_by: a response header that names who answered; ca: a file of
    certificates to trust, `insecure` trusts any; pods: NAME=HOST:PORT of each that is asked in turn, past what the URL names.
    """

    url: str
    api: str
    model: str
    timeout_s: float = 60.0
    slots: int = 64
    max_age_s: float = 10.0
    scale_s: float = 1.0
    served_by: str = "x-served-by"
    ca: str = ""
    insecure: bool = False
    pods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"target: {self.url!r} is not a URL of http or https")
        if self.api not in DIALECTS:
            raise BadInput(f"target: api {self.api!r}, one of {', '.join(DIALECTS)} is expected")
        if self.timeout_s <= 0 or self.slots < 1 or self.max_age_s < 0 or self.scale_s <= 0:
            raise BadInput(f"target: timeout {self.timeout_s}, slots {self.slots}, max_age {self.max_age_s}: not usable")

    def options(self) -> dict[str, object]:
        """As the command line of a carrier has it."""
        return {
            "target": self.url, "api": self.api, "model": self.model, "timeout": self.timeout_s, "slots": self.slots,
            "max-age": self.max_age_s, "scale": self.scale_s, "served-by": self.served_by, "ca": self.ca,
            "verify": "no" if self.insecure else "yes", "pods": ",".join(self.pods),
        }  # fmt: skip

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def places(self) -> list[tuple[str, str, int]]:
        """(name, host, port) of everyone who is asked in turn; without a name it is whoever the URL leads to."""
        split = [(name, *place.rpartition(":")[::2]) for name, _, place in (pod.partition("=") for pod in self.pods)]
        return [(name, host.strip("[]"), int(port)) for name, host, port in split] or [("", self.host, self.port)]

    @property
    def path(self) -> str:
        return urlsplit(self.url).path.rstrip("/") + DIALECTS[self.api].path

    @property
    def authority(self) -> str:
        """The Host header."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

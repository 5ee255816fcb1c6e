"""What lint refuses of the way to the candidate, and of who carries the load."""

import ssl
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from hotfire.scenario.marks import Loc
from hotfire.scenario.model import Load, Located, Scenario
from hotfire.scenario.serves import Serves

COUNTING_RUNTIMES = ("tgi", "tiny", "trtllm", "vllm")  # the contracts know; a test holds the two together

Finding = tuple[Loc, str]


def reach(scenario: Scenario, located: Located) -> Iterator[Finding]:
    """An address that is none, TLS that does not go with it, certificates that cannot be read."""
    reach = scenario.reach
    if reach.ca is not None:
        try:
            ssl.create_default_context(cafile=located.folder / reach.ca)
        except OSError as error:
            yield (
                ("reach", "ca"),
                f"{located.folder / reach.ca}: {error.strerror or error}, a PEM file of certificates is expected",
            )
    if reach.url is None:
        return
    parts = _address(reach.url)
    if parts is None:
        yield ("reach", "url"), f"{reach.url!r} is no address, https://HOST[:PORT] without a path is expected"
    elif parts.username is not None:
        yield ("reach", "url"), "url holds credentials, which no request would carry: `auth: {secret: NAME/KEY}` is expected"
    elif (parts.scheme == "https") != reach.tls:
        yield (
            ("reach", "tls" if located.says("reach", "tls") else "url"),
            f"{reach.url} does not go with tls: {str(reach.tls).lower()}",
        )


def _address(url: str) -> SplitResult | None:
    """None for what no request could be sent to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    plain = (
        url.isascii() and url.isprintable() and " " not in url and parts.path in ("", "/") and not parts.query + parts.fragment
    )
    return parts if plain and parts.scheme in ("http", "https") and parts.hostname and port != 0 else None


def carriers(scenario: Scenario, load: Load, located: Located) -> Iterator[Finding]:
    """Several that share what cannot be shared, or in a place where they are not, or without their image."""
    for key, many, place in (("processes", load.processes, "here"), ("workers", load.workers, "cluster")):
        if many > 1 and not load.arrivals.open:
            said = f"{many} {key} under {load.arrivals.text}: requests wait for one another"
            yield ("load", key), f"{said}, 1 or an open loop is expected"
        if many > 1 and load.from_ != place:
            yield ("load", key), f"{many} {key} of a load from {load.from_}, `from: {place}` is expected"
    if located.says("load", "cpu") and load.from_ != "cluster":
        yield ("load", "cpu"), f"cpu of a load from {load.from_}: no pod carries it, `from: cluster` is expected"
    if load.per_pod and load.from_ != "cluster":
        yield (
            ("load", "per_pod"),
            f"per_pod of a load from {load.from_}: pods are reached from inside, `from: cluster` is expected",
        )
    if load.per_pod and scenario.reach.via in ("url", "ingress"):
        said = f"per_pod goes past what `via: {scenario.reach.via}` measures"
        yield ("load", "per_pod"), f"{said}, `via: nodeport` or `in-cluster` is expected"
    if load.from_ == "cluster" and scenario.stand.load_image is None:
        yield ("load", "from"), "a load from the cluster needs its image, `stand: {load_image: …}` is expected"


def counted(serves: Serves) -> bool:
    """Whether somebody counts the requests of its users."""
    return serves.counted_by is not None or serves.runtime in COUNTING_RUNTIMES


def live(scenario: Scenario, load: Load) -> Iterator[Finding]:
    """Beside users: a load without a rate, one above its cap, a cap that is a share of what nobody counts."""
    if scenario.capped is None:
        return
    cap = load.live_cap
    unknown = [one.runtime for one in scenario.loaded if not counted(one)]
    if load.arrivals.kind == "closed":
        said = f"{load.arrivals.text} beside users has no rate that live_cap could hold"
        yield ("load", "arrivals"), f"{said}, a spaced or open load is expected"
    elif cap.is_share and unknown:
        said = f"{unknown[0]} counts no requests, so {cap.text} of what it serves is unknown"
        yield ("load", "live_cap"), f"{said}, live_cap as a rate such as 2/s is expected, or a gateway's `counted_by`"
    elif cap.value <= 0:
        yield ("load", "live_cap"), f"live_cap of {cap.text} lets no request through, more is expected"
    elif not cap.is_share and load.arrivals.peak > cap.value:
        yield ("load", "live_cap"), f"{load.arrivals.text} is more than the {cap.text} of live_cap beside users"

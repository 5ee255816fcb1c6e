"""A refused pull, in the words of real runtimes; and what only looks like one."""

import pytest

from hotfire.plugin.nouns.rollout import refused

DIGEST = "sha256:" + "401403ab" * 8
IMAGE = f"registry.example/team/llama@{DIGEST}"
BARE = "denied-401:403"
PULL = f'failed to pull and unpack image "{IMAGE}": '
RESOLVE = f'{PULL}failed to resolve reference "{IMAGE}": '
URL = f"https://registry.example/v2/team/llama/manifests/{DIGEST}"
HEAD = f'{RESOLVE}failed to do request: Head "{URL}"'
WORDS = {  # of a kubelet's ErrImagePull -> whether the registry wanted credentials
    "containerd, 401": (f"{RESOLVE}unexpected status from HEAD request to {URL}: 401 Unauthorized", True),
    "containerd, 403": (f"{RESOLVE}unexpected status from HEAD request to {URL}: 403 Forbidden", True),
    "containerd, a status without its phrase": (f"{RESOLVE}unexpected status from HEAD request to {URL}: 401", True),
    "containerd, anonymous token": (
        f"{RESOLVE}failed to authorize: failed to fetch anonymous token: unexpected status from GET request to "
        "https://auth.example/token?scope=repository%3Ateam%2Fllama%3Apull&service=registry: 401 Unauthorized",
        True,
    ),
    "containerd, scope": (
        f"{RESOLVE}pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
        True,
    ),
    "containerd, scope while it copies": (
        f"{PULL}failed to copy: httpReadSeeker: failed open: server message: insufficient_scope: authorization failed", True,
    ),
    "containerd, basic": (
        f"{RESOLVE}pull access denied, repository does not exist or may require authorization: authorization failed: no basic "
        "auth credentials",
        True,
    ),
    "containerd 1": (f"rpc error: code = Unknown desc = {RESOLVE}pulling from host registry.example failed with status code "
                     f"[manifests {DIGEST}]: 401 Unauthorized", True),
    "Docker": (f"Error response from daemon: Get {URL}: no basic auth credentials", True),
    "Docker, denied": (f"Error response from daemon: pull access denied for {IMAGE}, repository does not exist", True),
    "CRI-O": (f"initializing source docker://{IMAGE}: reading manifest {DIGEST} in registry.example/team/llama: unauthorized: "
              "authentication required", True),
    "CRI-O, denied": (f"reading manifest {DIGEST} in registry.example/team/llama: denied: requested access is denied", True),
    "refused connection": (f"{HEAD}: dial tcp 10.0.0.1:443: connect: connection refused", False),
    "refused at port 403": (f"{HEAD}: dial tcp 10.0.0.1:403: connect: connection refused", False),
    "firewall": (f"{HEAD}: dial tcp 10.0.0.1:443: connect: permission denied", False),
    "cut": (f"{PULL}failed to copy: unexpected EOF after 403 of 401000 bytes", False),
    "no name": (f"{HEAD}: dial tcp: lookup registry.example: no such host", False),
    "time": (f"{HEAD}: dial tcp 10.0.0.1:443: i/o timeout", False),
    "server error": (f"{RESOLVE}unexpected status from HEAD request to {URL}: 500 Internal Server Error", False),
    "disk": (f"{PULL}failed to copy: open /var/lib/denied/{DIGEST}: permission denied", False),
    "not there": (f"{RESOLVE}{IMAGE}: not found", False),
    "CRI-O, refused connection": (f"initializing source docker://{IMAGE}: pinging container registry registry.example: Get "
                                  '"https://registry.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused', False),
    "pulled": ("", False),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_only_a_registry_that_wants_credentials_refuses(case: str) -> None:
    why, wanted = WORDS[case]
    assert refused(why, IMAGE) is wanted


@pytest.mark.parametrize(("said", "wanted"), [("connection refused", False), ("401 Unauthorized", True)])
def test_the_name_of_an_image_refuses_nobody(said: str, wanted: bool) -> None:
    assert refused(f'failed to pull image "{BARE}": {BARE}: {said}', BARE) is wanted

"""The token that a registry's own service gives, and what comes of one that gives none."""

import httpx
import pytest

from hotfire.stand.registries import Account

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="https://auth.invalid/token",service="images",scope="repository:a:pull"'}


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"[]", b"null", b'"no"', b"{}", b""])
def test_a_token_service_that_gives_no_token_leaves_the_refusal_of_the_registry(page):
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=page) if request.url.path == "/token" else httpx.Response(401, headers=CHALLENGE)

    with httpx.Client(transport=httpx.MockTransport(answer), auth=Account("robot", "pass-word")) as client:
        assert client.get("https://registry.invalid/v2/").status_code == 401

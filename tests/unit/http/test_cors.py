"""A page of an allowed origin may send what the vendors' SDKs send: else a browser stops each of their requests."""

import anthropic
import httpx2
import openai
import pytest

from fusewire.http import headers

ALLOWED = {name.lower() for name in headers.ALLOWED}
# Seen of the browser builds of openai 6.49.0 and @anthropic-ai/sdk 1.14.0: calls, streams, helpers, retries.
FROM_BROWSERS = {
    "openai": "authorization content-type openai-organization openai-project user-agent x-stainless-arch "
    "x-stainless-helper-method x-stainless-lang x-stainless-os x-stainless-package-version x-stainless-retry-count "
    "x-stainless-runtime x-stainless-runtime-version x-stainless-timeout",
    "anthropic": "anthropic-beta anthropic-dangerous-direct-browser-access anthropic-version authorization "
    "content-type user-agent x-api-key x-stainless-arch x-stainless-helper x-stainless-helper-method x-stainless-lang "
    "x-stainless-os x-stainless-package-version x-stainless-retry-count x-stainless-runtime "
    "x-stainless-runtime-version x-stainless-timeout",
}
# https://fetch.spec.whatwg.org/#cors-safelisted-request-header, and what only the browser itself sets.
UNASKED = {"accept", "accept-encoding", "connection", "content-length", "host"}


@pytest.mark.parametrize("sdk", FROM_BROWSERS)
def test_a_browsers_build_may_send_its_headers(sdk: str) -> None:
    assert set(FROM_BROWSERS[sdk].split()) - ALLOWED == set()


def test_our_sdks_send_nothing_else() -> None:
    """The headers of the SDKs that we lock: new names in them are likely new in browsers too."""
    sent: set[str] = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.update(request.headers)
        return httpx2.Response(400, json={})

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        gpt = openai.OpenAI(api_key="x", organization="o", project="p", base_url="http://x", http_client=client)
        claude = anthropic.Anthropic(api_key="x", base_url="http://x", http_client=client)
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError):
                gpt.chat.completions.create(model="m", messages=[], stream=stream)
            with pytest.raises(anthropic.BadRequestError):
                claude.messages.create(model="m", max_tokens=1, messages=[], stream=stream)
        with pytest.raises(openai.BadRequestError):
            gpt.chat.completions.with_raw_response.create(model="m", messages=[])
        with pytest.raises(anthropic.BadRequestError), claude.messages.stream(model="m", max_tokens=1, messages=[]):
            pass
    assert {"authorization", "openai-project", "anthropic-version", "x-stainless-lang"} <= sent
    assert sent - UNASKED - ALLOWED == set()

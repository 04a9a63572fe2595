"""The HTTP client that OpenAI's and Anthropic's SDKs are given in place of the one that they make for themselves, which
took the larger part of their time (docs/decisions/0014-http-transport.md).
"""

from contextlib import closing
from functools import lru_cache
from typing import Any, Final
from urllib.request import getproxies

import httpx2

from fusewire.ai.providers.clock import Clock
from fusewire.ai.providers.http_transport import Transport

_TELEMETRY: Final = "x-stainless-"
"""What the SDKs tell of this machine: its system, its processor, its Python, its time-outs."""

_ENCODINGS: Final = ("accept-encoding", "gzip, deflate")
"""What httpx2 unpacks by itself."""


class HttpClient(httpx2.Client):
    """Sends each request as the SDK made it. Nothing of a client's own is added: no header, no cookie, no parameter."""

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:  # noqa: ANN401
        """:param given: what the SDKs give: `headers`, `content`, `params` and `timeout`; all else of it is empty"""
        pairs = given["headers"].multi_items() if isinstance(given["headers"], httpx2.Headers) else given["headers"]
        headers = [pair for pair in pairs if not pair[0].startswith(_TELEMETRY)]
        return httpx2.Request(
            method,
            _parsed(url) if isinstance(url, str) else url,
            headers=[*headers, _ENCODINGS],
            params=given["params"],
            content=given["content"],
            extensions={"timeout": given["timeout"].as_dict()},
        )

    def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:  # noqa: ANN401
        """:raises httpx2.ReadTimeout: also where the whole of an answer that isn't streamed isn't there within the read
        time-out, however it comes: httpx2's own is for each packet"""
        clock = None if stream else Clock(request.extensions["timeout"]["read"])
        response = super().send(request, stream=True, **given)
        if clock is not None:
            clock.watch(response)
            with closing(response):
                response.read()
        return response

    def __del__(self) -> None:
        # Nobody closes a provider's client: where a vendor's key changes, another takes its place.
        self.close()


def http_client() -> HttpClient:
    """A client for one vendor. Where the environment names a proxy, httpx2's own transport finds the way."""
    is_direct = getproxies().keys() <= {"no"}
    return HttpClient(transport=Transport() if is_direct else None)


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx2.URL:
    return httpx2.URL(url)

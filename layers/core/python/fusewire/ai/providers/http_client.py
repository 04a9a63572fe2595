"""The HTTP client that OpenAI's and Anthropic's SDKs are given: httpx2's, less what a vendor needn't be sent
(docs/decisions/0014-http-client.md).

What goes wrong comes out as httpx2's errors, because they decide what is booked
(`response_failures.from_transport_error`): before there is a connection nothing was asked for, from then on all of it
may be billed.
"""

import socket
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import Any, Final
from urllib.request import getproxies

import httpx2

from fusewire.ai.providers.answer_limits import (
    ERROR,
    STREAMED,
    WHOLE,
    AnswerLimits,
    AnswerSize,
    AnswerTooLarge,
    for_vectors,
)
from fusewire.ai.providers.deadline import AttemptDeadline
from fusewire.ai.providers.sending import current
from fusewire.json import holds_more_values

VECTORS_HEADER: Final = "x-fusewire-vectors"
"""How many vectors a request asks for. It is for this client, which sends it to nobody."""

_TELEMETRY_PREFIX: Final = "x-stainless-"
"""The SDKs' headers about this machine: its system, its processor, its Python, its time-outs."""

_ACCEPT_ENCODING: Final = ("accept-encoding", "gzip, deflate")
"""What httpx2 decodes by itself."""

_LIMITS: Final = "fusewire.limits"
"""The name of a request's extension: the `AnswerLimits` of its answer."""

_TCP_KEEP_ALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}.items()
        if hasattr(socket, name)  # not on every system
    ),
]
"""As Anthropic's SDK sets it: a NAT gateway forgets a connection sooner than a long answer comes."""


class HttpClient(httpx2.Client):
    """Sends each request as the SDK built it. The client adds nothing of its own: no header, cookie or parameter."""

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:  # noqa: ANN401
        """:param options: what the SDKs pass: `headers`, `content`, `params`, `timeout`; all others are empty"""
        headers = options["headers"]
        pairs = headers.multi_items() if isinstance(headers, httpx2.Headers) else headers
        own = (_TELEMETRY_PREFIX, VECTORS_HEADER)
        vectors = next((int(value) for name, value in pairs if name == VECTORS_HEADER), None)
        return httpx2.Request(
            method,
            _parsed(url) if isinstance(url, str) else url,
            headers=[*(pair for pair in pairs if not pair[0].startswith(own)), _ACCEPT_ENCODING],
            params=options["params"],
            content=options["content"],
            extensions={
                "timeout": options["timeout"].as_dict(),
                _LIMITS: WHOLE if vectors is None else for_vectors(vectors),
            },
        )

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        """Send a request; without `stream`, read the whole body too.

        :raises httpx2.ReadTimeout: also where a body that isn't streamed isn't complete within the read time-out, at
            whatever pace it comes: httpx2's own limit is for each read
        :raises httpx2.ConnectError: also for a host name that can't be looked up
        :raises AnswerTooLargeError: for more than `answer_limits` allow, then or while a stream is read
        """
        deadline = AttemptDeadline(request.extensions["timeout"]["read"])
        if (attempt := current()) is not None:
            request.extensions["trace"] = attempt.trace
        try:
            response = super().send(request, stream=True, **options)
        except UnicodeError as error:  # Python's resolver, of a label over 63 characters: nothing was sent
            raise httpx2.ConnectError(type(error).__name__, request=request) from error
        response.__class__ = _LimitedResponse
        if not stream or response.is_error:  # an error's body is read by the SDK, with no eye on the time
            deadline.watch(response)
        if not stream:
            with closing(response):
                response.read()
        return response

    def __del__(self) -> None:
        # Nobody closes a provider's client: where a vendor's key changes, another takes its place.
        self.close()


class AnswerTooLargeError(AnswerTooLarge, httpx2.DecodingError):
    """As the SDKs expect it: one of httpx2's errors."""


class _LimitedResponse(httpx2.Response):
    """A response that ends in an error where it is larger than its limits."""

    _whole = False

    def read(self) -> bytes:
        if self.is_stream_consumed:
            return super().read()
        self._whole = True
        content = super().read()
        if holds_more_values(content, self._limits.values):
            raise AnswerTooLargeError("the answer holds too many values", request=self.request)
        return content

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        if self.is_stream_consumed:  # it was read as a whole, and checked then
            yield from super().iter_bytes(chunk_size)
            return
        size = AnswerSize(self._limits)
        for part in super().iter_bytes(chunk_size):
            try:
                size.add(part)
            except AnswerTooLarge:
                self.close()
                raise AnswerTooLargeError("the answer is larger than it may be", request=self.request) from None
            yield part

    @property
    def _limits(self) -> AnswerLimits:
        if self.is_error:
            return ERROR
        if not self._whole and self.headers.get("content-type", "").lower().startswith("text/event-stream"):
            return STREAMED
        limits: AnswerLimits = self.request.extensions[_LIMITS]
        return limits


def http_client() -> HttpClient:
    """A client for one vendor. Where the environment names a proxy, httpx2 chooses the transports.

    :raises httpx2.ConnectError: when the certificates that the environment names can't be read
    """
    try:
        verify = httpx2.create_ssl_context()
    except OSError as error:
        raise httpx2.ConnectError(f"the certificates can't be read: {type(error).__name__}") from error
    if getproxies().keys() <= {"no"}:
        return HttpClient(transport=httpx2.HTTPTransport(verify, socket_options=_TCP_KEEP_ALIVE))
    return HttpClient(verify=verify)


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx2.URL:
    return httpx2.URL(url)

"""The streaming Lambda runtime: `python -m fusewire.runtime app.handler` speaks the Runtime API for a function.

AWS's own client (`awslambdaric`) can't stream, so functions that do start this loop instead, through
`AWS_LAMBDA_EXEC_WRAPPER`. Standard library only, and nothing of fusewire's: it is the first thing that a cold start
imports. A handler gets the event and a `Context` whose `streams` is True, and returns either API Gateway's proxy
response (a dict) or a `Streamed`.
"""

from collections.abc import Iterator
from typing import Protocol


class Streamed(Protocol):
    """A response whose bytes are sent as they are produced. What has these three attributes is one."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers, without Content-Length."""

    @property
    def chunks(self) -> Iterator[bytes]:
        """The body. Status and headers leave with its first chunk; it is always read to its end."""

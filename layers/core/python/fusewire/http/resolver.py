"""API Gateway's events in, typed requests to the core, API Gateway's answers out.

Powertools' event handler routes; this module adds what every function of ours shares: the request's id, errors as
OpenAI's body, CORS, and streamed answers.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from pydantic import BaseModel, ValidationError

from fusewire import logs, metrics
from fusewire.config import Settings
from fusewire.errors import FusewireError, InvalidRequestError, LedgerUnavailableError, RequestTooLargeError
from fusewire.http import weight
from fusewire.http.cors import cors_of
from fusewire.http.errors import body_of, from_validation, headers_of
from fusewire.http.identity import Identity, Scope, identity_of, refuse_strange_page
from fusewire.http.invocation import LambdaContext, log_ledger_unavailable, log_unexpected, request_id_of
from fusewire.json import dumps
from fusewire.keys import Act

_LARGEST_BODY_BYTES: Final = 6_000_000  # what Lambda takes synchronously; API Gateway itself allows 10 MB

_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_Model = TypeVar("_Model", bound=BaseModel)


ErrorTeller = Callable[[FusewireError, str], tuple[object, dict[str, str]]]
"""From an error and the request's id to a body and headers."""


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer in pieces: `fusewire.runtime` sends each as it comes, and reads them to their end whoever hangs up."""

    status: int
    headers: dict[str, str]
    chunks: Iterator[bytes]

    def buffered(self) -> dict[str, object]:
        """The same as an ordinary proxy response, for a runtime that can't stream."""
        return {
            "statusCode": self.status,
            "headers": self.headers,
            "body": b"".join(self.chunks).decode(),
            "isBase64Encoded": False,
        }


class Resolver(APIGatewayRestResolver):
    """A function's routes. `resolver.serve` is its handler."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(serializer=dumps, cors=cors_of(settings))
        self.settings = settings
        self.tell_error: ErrorTeller = _tell_as_openai
        """How this request's errors are told; a route of another format than OpenAI's sets its own."""
        self._chunks: Iterator[bytes] | None = None
        self._headers: dict[str, str] | None = None
        """Of the request, once somebody has asked for one."""
        self.exception_handler(FusewireError)(self._answer_error)
        self.exception_handler(Exception)(self._answer_unexpected)
        self.not_found(_answer_not_found)

    def serve(self, event: dict[str, Any], context: LambdaContext) -> "dict[str, Any] | StreamedAnswer":
        """The handler: one event in, an API Gateway answer out, whatever happens."""
        request_id = request_id_of(event, context)
        logs.start_request(request_id, self.settings.log_level)
        self.tell_error = _tell_as_openai
        self._headers = None
        answer: dict[str, Any] = self.resolve(event, context)  # type: ignore[arg-type] # their context is a class, ours a protocol
        headers = _single(answer) | {"x-request-id": request_id}
        chunks = self._taken_chunks()
        metrics.answering(streamed=chunks is not None)
        if chunks is None:
            logs.end_request()
            return answer | {"headers": headers, "multiValueHeaders": {}}
        streamed = StreamedAnswer(answer["statusCode"], headers, _to_the_last(chunks))
        return streamed if getattr(context, "streams", False) else streamed.buffered()

    def _taken_chunks(self) -> Iterator[bytes] | None:
        chunks, self._chunks = self._chunks, None
        return chunks

    def stream(self, chunks: Iterator[bytes], headers: Mapping[str, str]) -> Response[str]:
        """Answer with `chunks` once the route has returned."""
        self._chunks = chunks
        return Response(
            200,
            "text/event-stream; charset=utf-8",
            "",
            {**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @property
    def request_id(self) -> str:
        return request_id_of(self.current_event.raw_event, self.lambda_context)

    @property
    def identity(self) -> Identity:
        """Who asks; :raises AuthenticationError: when nobody has vouched for the caller"""
        return identity_of(self.current_event.raw_event, self.settings)

    def require(self, scope: Scope | None = None, *, spends: bool = False) -> None:
        """Every route that isn't for everybody begins with this.

        :param scope: None where any valid key will do
        :param spends: whether the request costs money, though its method is a safe one
        :raises AuthenticationError: when nobody has vouched for the caller
        :raises PermissionDeniedError: when its key doesn't have the scope, or for a web page that nobody knows
        """
        # Asked here too, so that with keys no call looks for headers that don't matter.
        if self.settings.auth_mode == "open" and (spends or self.current_event.http_method not in _SAFE_METHODS):
            refuse_strange_page(self.header("origin"), self.header("sec-fetch-site"), self.settings)
        identity = self.identity
        if scope is not None:
            identity.require(scope)

    @property
    def actor(self) -> str:
        """Who asks, for the audit: a key's id, or `open`."""
        return self.identity.actor

    @property
    def act(self) -> Act:
        """What the audit says of a change that this request makes."""
        return Act(self.actor, self.source_ip, self.request_id)

    @property
    def source_ip(self) -> str | None:
        context = self.current_event.raw_event.get("requestContext") or {}
        return (context.get("identity") or {}).get("sourceIp")

    def header(self, name: str) -> str | None:
        """A request header, whatever its case; one that came more than once as a list with commas, as HTTP has it."""
        if self._headers is None:
            self._headers = _headers_of(self.current_event.raw_event)
        return self._headers.get(name.lower())

    def body(self, model: type[_Model], *, empty: str | None = None, most_values: int = weight.MOST_VALUES) -> _Model:
        """The request's body as `model`.

        :param empty: what an absent body stands for; None where one is needed
        :param most_values: how many values it may hold
        :raises InvalidRequestError: naming the field, the value and what is allowed
        :raises RequestTooLargeError: over 6 MB, what Lambda takes
        """
        content = _content(self.current_event.raw_event) or (empty or "").encode()
        if len(content) > _LARGEST_BODY_BYTES:
            raise RequestTooLargeError(f"The body is larger than {_LARGEST_BODY_BYTES:,} bytes.")
        if not content:
            raise InvalidRequestError("The body is empty; a JSON object is expected.")
        self._check_encoding()
        if weight.is_heavier(content, most_values):
            raise InvalidRequestError(f"The body holds more than {most_values:,} values. Send fewer at once.")
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise from_validation(error) from None

    def _check_encoding(self) -> None:
        """What is compressed is never unpacked, so no body grows on the way in.

        :raises InvalidRequestError: for a body that says that it is something else than plain JSON
        """
        packed = (self.header("content-encoding") or "identity").strip().lower()
        if packed != "identity":
            told = f"Content-Encoding {packed[:40]!r} isn't supported. Send the body as it is."
            raise InvalidRequestError(told, param="Content-Encoding")
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        # The type of a form is what curl and others send unasked.
        if kind not in ("", "application/json", "application/x-www-form-urlencoded") and not kind.endswith("+json"):
            told = f"Content-Type must be application/json, not {kind[:40]!r}."
            raise InvalidRequestError(told, param="Content-Type")

    def query(self, model: type[_Model]) -> _Model:
        """The request's query string as `model`.

        :raises InvalidRequestError: naming the parameter, the value and what is allowed
        """
        event = self.current_event.raw_event
        for name, values in (event.get("multiValueQueryStringParameters") or {}).items():
            if len(values) > 1:
                raise InvalidRequestError(f"{name[:100]} is there more than once. Send it once.", param=name[:100])
        try:
            return model.model_validate(event.get("queryStringParameters") or {})
        except ValidationError as error:
            raise from_validation(error) from None

    def accepts(self, kind: str) -> bool:
        """Whether the caller asks for this media type by its name."""
        asked = (self.header("accept") or "").lower().split(",")
        return kind in [each.partition(";")[0].strip() for each in asked]

    def _answer_error(self, error: FusewireError) -> Response[str]:
        if isinstance(error, LedgerUnavailableError):
            log_ledger_unavailable(error)
        return self._told(error)

    def _answer_unexpected(self, error: Exception) -> Response[str]:
        log_unexpected(error)
        return self._told(
            FusewireError("Something failed inside the gateway. The log has the place, under this request id.")
        )

    def _told(self, error: FusewireError) -> Response[str]:
        return json_response(error.status, *self.tell_error(error, self.request_id))


def _to_the_last(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A stream's request is over when its last chunk has left."""
    try:
        yield from chunks
    finally:
        logs.end_request()


def _tell_as_openai(error: FusewireError, request_id: str) -> tuple[object, dict[str, str]]:
    return body_of(error), headers_of(error)


def _headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """By their names in lower case."""
    headers: dict[str, str] = {}
    for name, value in (event.get("headers") or {}).items():
        headers.setdefault(name.lower(), value)
    for name, values in (event.get("multiValueHeaders") or {}).items():
        if len(values) > 1:
            headers[name.lower()] = ", ".join(values)
    return headers


def _content(event: Mapping[str, Any]) -> bytes:
    """The body's bytes.

    :raises InvalidRequestError: for what can't be decoded
    """
    body = event.get("body") or ""
    try:
        return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError:  # binascii.Error, or UnicodeEncodeError for half a surrogate pair
        raise InvalidRequestError("The body can't be decoded: neither base64 as announced nor UTF-8.") from None


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response[str]:
    """A JSON answer whose money is exact."""
    return Response(status, "application/json", dumps(body), dict(headers or {}))


def _answer_not_found(error: NotFoundError) -> Response[str]:
    return json_response(
        404,
        {
            "error": {
                "message": "There is no such route.",
                "type": "invalid_request_error",
                "code": "route_not_found",
                "param": None,
            }
        },
        {"x-should-retry": "false"},
    )


def _single(answer: Mapping[str, Any]) -> dict[str, str]:
    """Powertools answers a REST API in `multiValueHeaders`; none of ours has more than one value."""
    headers = dict(answer.get("headers") or {})
    for name, values in (answer.get("multiValueHeaders") or {}).items():
        headers[name] = values if isinstance(values, str) else ", ".join(values)
    return headers

"""One request: what a handler can ask of API Gateway's event."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from fusewire.ai.permissions import classification_of
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, RequestTooLargeError
from fusewire.http.errors import from_validation
from fusewire.http.headers import CLASSIFICATION, MAX_COST, OUTPUT_CAP
from fusewire.http.identity import Identity, identity_of, refuse_unknown_page
from fusewire.http.invocation import LambdaContext, after_response, caller_has_left, request_id_of
from fusewire.http.route import MAX_VALUES
from fusewire.json import holds_more_values, repeated_key

if TYPE_CHECKING:
    from decimal import Decimal

    from fusewire.ai.caller import Caller
    from fusewire.budget.audit_context import AuditContext

_MAX_BODY_BYTES: Final = 6_000_000  # what Lambda takes synchronously; API Gateway itself allows 10 MB
_MAX_FAULTS: Final = 1000
"""To describe one takes ten times as long as to find it."""

_Model = TypeVar("_Model", bound=BaseModel)


class Request:
    """One event of API Gateway under one set of settings."""

    def __init__(self, event: Mapping[str, Any], context: LambdaContext, settings: Settings) -> None:
        self._event = event
        self._context = context
        self._settings = settings
        self.id = request_id_of(event, context)

    @property
    def method(self) -> str:
        return str(self._event["httpMethod"])

    @cached_property
    def identity(self) -> Identity:
        """Who calls.

        :raises AuthenticationError: when no authorizer has identified the caller
        """
        return identity_of(self._event, self._settings)

    @property
    def within(self) -> str | None:
        """The budget that the caller's scopes `read` and `admin` are bound to; None: they are for the whole company."""
        return self.identity.scope_budget_id

    @property
    def audit_context(self) -> "AuditContext":
        """What the audit says of a change that this request makes."""
        from fusewire.budget.audit_context import AuditContext  # here, since most requests change nothing

        context = self._event.get("requestContext") or {}
        source_ip = (context.get("identity") or {}).get("sourceIp")
        return AuditContext(self.identity.actor, source_ip, self.id)

    def caller(self, dropped: tuple[str, ...] = ()) -> "Caller":
        """The caller as the router knows it.

        :param dropped: the fields of the request's format that `ChatRequest` has no place for
        :raises InvalidRequestError: for an unknown classification, or a limit that isn't one
        :raises PermissionDeniedError: for one that the caller's key may not use
        """
        # Here, since most functions call no provider.
        from fusewire.ai.caller import Caller

        identity = self.identity
        wants_whole_cap, max_cost_usd = self._limits()
        return Caller(
            request_id=self.id,
            remaining_seconds=self._context.get_remaining_time_in_millis() / 1000,
            classification=classification_of(self.header(CLASSIFICATION), identity.permissions),
            key_id=identity.key_id,
            permissions=replace(identity.permissions, sees_settings=identity.is_admin),
            dropped=dropped,
            wants_whole_cap=wants_whole_cap,
            max_cost_usd=max_cost_usd,
            after_response=after_response(self._context),
            has_left=caller_has_left(self._context),
        )

    def _limits(self) -> "tuple[bool, Decimal | None]":
        """Whether the call's whole output cap is to be reserved, and the most USD that it may cost.

        :raises InvalidRequestError: for headers that don't say so
        """
        cap, cost = self.header(OUTPUT_CAP), self.header(MAX_COST)
        if cap is None and cost is None:
            return False, None
        from fusewire.http.call_limits import max_cost_of, wants_whole_cap  # here, since few requests name any

        return wants_whole_cap(cap), max_cost_of(cost)

    def refuse_unknown_page(self) -> None:
        """:raises PermissionDeniedError: with AUTH_MODE=open, for a web page that isn't in CORS_ORIGINS"""
        # Checked here too, so that with keys no call looks for headers that don't matter.
        if self._settings.auth_mode == "open":
            refuse_unknown_page(self.header("origin"), self.header("sec-fetch-site"), self._settings)

    def header(self, name: str) -> str | None:
        """A request header, whatever its case; one that came more than once as a list with commas, as HTTP has it."""
        return self._headers.get(name.lower())

    @cached_property
    def _headers(self) -> dict[str, str]:
        """By their names in lower case."""
        headers: dict[str, str] = {}
        for name, value in (self._event.get("headers") or {}).items():
            headers.setdefault(name.lower(), value)
        for name, values in (self._event.get("multiValueHeaders") or {}).items():
            if len(values) > 1:
                headers[name.lower()] = ", ".join(values)
        return headers

    def accepts(self, kind: str) -> bool:
        """Whether the caller asks for this media type by its name."""
        accepted = (self.header("accept") or "").lower().split(",")
        return kind in [each.partition(";")[0].strip() for each in accepted]

    def body(self, model: type[_Model], *, empty: bool = False, max_values: int = MAX_VALUES) -> _Model:
        """The request's body as `model`.

        :param empty: whether an absent body stands for `{}`
        :param max_values: how many values it may hold
        :raises InvalidRequestError: naming the field, the value and what is allowed
        :raises RequestTooLargeError: over 6 MB, what Lambda takes
        """
        content = _content(self._event) or (b"{}" if empty else b"")
        if len(content) > _MAX_BODY_BYTES:
            raise RequestTooLargeError(f"The body is larger than {_MAX_BODY_BYTES:,} bytes.")
        if not content:
            raise InvalidRequestError("The body is empty; a JSON object is expected.")
        self._check_encoding()
        if holds_more_values(content, max_values):
            raise InvalidRequestError(f"The body holds more than {max_values:,} values. Send fewer at once.")
        if (name := repeated_key(content)) is not None:
            raise InvalidRequestError(
                f'The body holds "{name[:100]}" twice in one object. Send it once.', param=name[:100]
            )
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            if (faults := error.error_count()) > _MAX_FAULTS:  # an object with thousands of unknown names
                message = f"The body is wrong in {faults:,} places. GET /api/v1/openapi.json says what it may hold."
                raise InvalidRequestError(message) from None
            raise from_validation(error) from None

    def _check_encoding(self) -> None:
        """What is compressed is never unpacked, so no body grows on the way in.

        :raises InvalidRequestError: for a body that says that it is something else than plain JSON
        """
        encoding = (self.header("content-encoding") or "identity").strip().lower()
        if encoding != "identity":
            message = f"Content-Encoding {encoding[:40]!r} isn't supported. Send the body as it is."
            raise InvalidRequestError(message, param="Content-Encoding")
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        # The type of a form is what curl and others send unasked.
        if kind not in ("", "application/json", "application/x-www-form-urlencoded") and not kind.endswith("+json"):
            message = f"Content-Type must be application/json, not {kind[:40]!r}."
            raise InvalidRequestError(message, param="Content-Type")

    def query(self, model: type[_Model]) -> _Model:
        """The request's query string as `model`.

        :raises InvalidRequestError: naming the parameter, the value and what is allowed
        """
        for name, values in (self._event.get("multiValueQueryStringParameters") or {}).items():
            if len(values) > 1:
                raise InvalidRequestError(f"{name[:100]} is there more than once. Send it once.", param=name[:100])
        try:
            return model.model_validate(self._event.get("queryStringParameters") or {})
        except ValidationError as error:
            raise from_validation(error) from None


def _content(event: Mapping[str, Any]) -> bytes:
    """The body's bytes.

    :raises InvalidRequestError: for what can't be decoded
    """
    body = event.get("body") or ""
    try:
        return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError:  # binascii.Error, or UnicodeEncodeError for half a surrogate pair
        raise InvalidRequestError("The body can't be decoded: neither base64 as announced nor UTF-8.") from None

"""What went wrong at Bedrock: by how far the exchange came, then by HTTP status, then by the error's name, text last.

Sources: "Common errors" of the Bedrock Runtime API reference and "Troubleshooting Amazon Bedrock API error codes" of
its user guide; botocore's `bedrock-runtime` service model.
"""

from collections.abc import Mapping
from traceback import walk_tb
from typing import Final

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.aws_exchange import AnswerCut, Exchange, TimeIsOver
from fusewire.ai.providers.faults import malformed, retry_after_seconds, unlisted

_K = FailureKind

_CREDENTIAL: Final = "see its role, AWS_PROFILE, AWS_ACCESS_KEY_ID or AWS_BEARER_TOKEN_BEDROCK"
_MODEL: Final = "see AWS_BEDROCK_*_MODEL and AWS_REGION"

_BY_STATUS: Final[Mapping[int, tuple[FailureKind, str]]] = {
    400: (_K.REJECTED_REQUEST, "rejected the request"),
    401: (_K.CREDENTIAL_REJECTED, f"rejected the credential; {_CREDENTIAL}"),
    402: (_K.OUT_OF_CREDIT, "has no credit left on this account"),
    403: (_K.CREDENTIAL_REJECTED, f"denies this credential access; {_CREDENTIAL}"),
    404: (_K.MODEL_NOT_FOUND, f"knows no such model; {_MODEL}"),
    408: (_K.REQUEST_TIMEOUT, "reports that the model timed out"),
    409: (_K.CONFLICT, "reported a conflict"),
    413: (_K.TOO_LARGE, "found the request too large"),
    422: (_K.REJECTED_REQUEST, "rejected the request"),
    # The model's own failure, behind Bedrock: whether it had worked before that, nobody tells.
    424: (_K.GATEWAY_ERROR, "reports that the model failed"),
    429: (_K.RATE_LIMITED, "is throttling"),
    502: (_K.GATEWAY_ERROR, "is unreachable behind its gateway"),
    503: (_K.OVERLOADED, "is unavailable"),
    504: (_K.GATEWAY_ERROR, "timed out behind its gateway"),
    529: (_K.OVERLOADED, "is overloaded"),
}

_CREDENTIAL_NAMES: Final = frozenset({
    "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "IncompleteSignatureException",
    "InvalidClientTokenId", "InvalidIdentityToken", "InvalidSignatureException", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip

_BY_NAME: Final[Mapping[str, tuple[FailureKind, str]]] = {
    **dict.fromkeys(_CREDENTIAL_NAMES, _BY_STATUS[401]),
    # These come with a 400 too.
    "ServiceQuotaExceededException": (_K.RATE_LIMITED, "says that the account's quota is used up"),
    "ThrottlingException": _BY_STATUS[429],
    "ModelNotReadyException": (_K.OVERLOADED, "is still making the model ready"),
}

_BY_TEXT: Final[Mapping[str, tuple[FailureKind, str]]] = {
    "model identifier is invalid": _BY_STATUS[404],
    "on-demand throughput isn": (
        _K.MODEL_NOT_FOUND,
        f"serves this model under an inference profile's id only (us., eu., global.); {_MODEL}",
    ),
    "access to the model": (
        _K.MODEL_NOT_FOUND,
        f"hasn't granted this account access to the model; {_MODEL}",
    ),
    "not authorized to access this model": (
        _K.MODEL_NOT_FOUND,
        f"hasn't granted this account access to the model; {_MODEL}",
    ),
    "marketplace": (_K.MODEL_NOT_FOUND, "has no AWS Marketplace subscription to the model for this account yet"),
    "payment_instrument": (_K.OUT_OF_CREDIT, "has no valid means of payment for this account"),
    "operation not allowed": (_K.CREDENTIAL_REJECTED, "doesn't let this account use Bedrock"),
    "blocked by our content filters": (_K.CONTENT_POLICY, "refused the content by its policy"),
}
"""Parts of the message of a 400 or a 403, in small letters, where neither status nor name tells it from the rest."""

_BY_EVENT: Final[Mapping[str, tuple[FailureKind, str]]] = {
    "throttlingException": _BY_STATUS[429],
    "validationException": _BY_STATUS[400],
    "internalServerException": (_K.SERVER_ERROR, "failed"),
    "serviceUnavailableException": _BY_STATUS[503],
}
"""Exceptions that take the first event's place. Behind it, each of them is an error in a stream that had begun."""

_CALLERS: Final = {_K.REJECTED_REQUEST, _K.TOO_LARGE, _K.CONTENT_POLICY}


def failure_of(error: Exception, exchange: Exchange, *, begun: bool = False) -> ProviderFailure:
    """What an exception out of boto3 means. `begun`: a stream whose first event had come."""
    from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped]

    if isinstance(error, EventStreamError):
        return _event(error.response, begun=begun)
    if isinstance(error, ClientError):
        return _answered(error.response, exchange)
    if not exchange.sent:
        return _unsent(error)
    return _unanswered(error, exchange)


def _status(status: int, name: str, text: str, headers: Mapping[str, str]) -> ProviderFailure:
    kind, what = _BY_STATUS.get(status) or unlisted(status)
    if status < 400:
        kind, what = _K.MALFORMED_ANSWER, "answered with neither content nor an error"
    elif status < 500 and name in _BY_NAME:
        kind, what = _BY_NAME[name]
    elif status in (400, 403):
        found = (told for part, told in _BY_TEXT.items() if part in text.lower())
        kind, what = next(found, (kind, what))
    return ProviderFailure(
        kind,
        f"aws {what} (HTTP {status})",
        retry_after=retry_after_seconds(headers),
        caller_message=text if text and kind in _CALLERS else None,
    )


def _answered(response: Mapping[str, object], exchange: Exchange) -> ProviderFailure:
    error = response.get("Error")
    name, text = (error.get("Code"), error.get("Message")) if isinstance(error, dict) else (None, None)
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    return _status(
        exchange.status or 0, name if isinstance(name, str) else "", text if isinstance(text, str) else "", headers
    )


def _event(response: Mapping[str, object], *, begun: bool) -> ProviderFailure:
    error = response.get("Error")
    name, text = (error.get("Code"), error.get("Message")) if isinstance(error, dict) else (None, None)
    if begun or name not in _BY_EVENT:
        return ProviderFailure(_K.STREAM_ERROR, "aws sent an error in the stream")
    kind, what = _BY_EVENT[str(name)]
    told = text if isinstance(text, str) and text and kind in _CALLERS else None
    return ProviderFailure(kind, f"aws {what} (an event in the place of the answer)", caller_message=told)


def _unsent(error: Exception) -> ProviderFailure:
    """Nothing has left this machine: settings, credentials, or a request that the SDK itself refuses."""
    from botocore import exceptions  # type: ignore[import-untyped]

    if isinstance(error, TimeIsOver):
        return ProviderFailure(_K.CONNECT_TIMEOUT, "aws: no time was left to send the request")
    if isinstance(error, exceptions.ParamValidationError):
        return ProviderFailure(
            _K.REJECTED_REQUEST, "aws: the SDK refused the request", caller_message=f"For Bedrock: {error}"
        )
    settings = (
        exceptions.NoRegionError,
        exceptions.InvalidRegionError,
        exceptions.EndpointProviderError,
        exceptions.InvalidEndpointConfigurationError,
        exceptions.UnknownEndpointError,
        ValueError,
    )
    if isinstance(error, settings):
        return ProviderFailure(
            _K.CONNECT_FAILED, "aws has no such address; see AWS_REGION and AWS_BEDROCK_ENDPOINT_URL"
        )
    return ProviderFailure(_K.CREDENTIAL_REJECTED, f"aws: no credentials could be had; {_CREDENTIAL}")


def _in_handshake(error: BaseException | None) -> bool:
    """Whether TLS failed before the request was sent. botocore raises the same where a record can't be read after it,
    and OpenSSL has the same words for both; the frames that the first of the errors went through tell them apart."""
    while error is not None:
        if any(frame.f_code.co_name == "do_handshake" for frame, _ in walk_tb(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unanswered(error: Exception, exchange: Exchange) -> ProviderFailure:
    """Sent, and then no answer, half of one, or one that botocore's parser gave up on."""
    import urllib3
    from botocore import exceptions

    if exchange.status is None:
        if isinstance(error, exceptions.ConnectTimeoutError):
            return ProviderFailure(_K.CONNECT_TIMEOUT, "aws didn't accept a connection in time")
        unconnected = isinstance(error, exceptions.EndpointConnectionError | exceptions.ProxyConnectionError)
        if unconnected or (isinstance(error, exceptions.SSLError) and _in_handshake(error)):
            return ProviderFailure(_K.CONNECT_FAILED, "aws can't be connected to")
    if isinstance(error, TimeIsOver | exceptions.ReadTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return ProviderFailure(_K.READ_TIMEOUT, "aws didn't answer in time")
    if isinstance(error, AnswerCut | urllib3.exceptions.HTTPError | exceptions.HTTPClientError | OSError):
        return ProviderFailure(_K.CONNECTION_LOST, "aws dropped the connection")
    if exchange.status is not None and exchange.status >= 300:
        return _status(exchange.status, "", "", {name.lower(): value for name, value in exchange.headers.items()})
    return malformed("aws")

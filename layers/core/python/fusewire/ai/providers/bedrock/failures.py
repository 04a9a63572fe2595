"""What went wrong at Bedrock: by how far the exchange came, then by HTTP status, then by the error's name, text last.

Sources: "Common errors" of the Bedrock Runtime API reference and "Troubleshooting Amazon Bedrock API error codes" of
its user guide; botocore's `bedrock-runtime` service model.
"""

from collections.abc import Mapping
from traceback import walk_tb
from typing import Final

from fusewire.ai.failures import CONSEQUENCES, OF_FORM, FailureKind, Health, ProviderFailure
from fusewire.ai.providers.answer_limits import AnswerTooLarge
from fusewire.ai.providers.anthropic.thinking import refuses_thoughts
from fusewire.ai.providers.bedrock.exchange import AnswerCut, Exchange, TimeIsOver
from fusewire.ai.providers.known_refusals import (
    ANTHROPIC,
    BEDROCK,
    MODELS_OWN_ERRORS,
    REJECTED,
    begins_with_field,
    find_refusal,
)
from fusewire.ai.providers.response_failures import (
    StatusMeaning,
    field_named,
    malformed,
    meaning_of,
    not_sent,
    retry_after_seconds,
    too_large,
)

_K = FailureKind

_SEE: Final[Mapping[FailureKind, str]] = {
    _K.CREDENTIAL_REJECTED: "see its role, AWS_PROFILE, AWS_ACCESS_KEY_ID or AWS_BEARER_TOKEN_BEDROCK",
    _K.MODEL_NOT_FOUND: "see AWS_BEDROCK_*_MODEL and AWS_REGION",
    _K.MODEL_DENIED: "see AWS_BEDROCK_*_MODEL, AWS_REGION and what its role may invoke",
}

_OWN_STATUSES: Final[Mapping[int, StatusMeaning]] = {
    404: (_K.MODEL_NOT_FOUND, "knows no such model"),
    408: (_K.REQUEST_TIMEOUT, "reports that the model timed out"),
    # The model's own failure, behind Bedrock: whether it had worked before that, nobody tells.
    424: (_K.GATEWAY_ERROR, "reports that the model failed"),
}

_STATUS_OF_EVENT: Final[Mapping[str, int]] = {
    "throttlingException": 429,
    "validationException": 400,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
"""Exceptions that take the first event's place. Behind it, each of them is an error in a stream that had begun."""

_FIELDS: Final[Mapping[str, str]] = {
    "max_tokens": "max_tokens",
    "maxTokens": "max_tokens",
    "inferenceConfig.maxTokens": "max_tokens",
    "temperature": "temperature",
    "inferenceConfig.temperature": "temperature",
    "top_p": "top_p",
    "topP": "top_p",
    "inferenceConfig.topP": "top_p",
    "stopSequences": "stop",
    "stop_sequences": "stop",
    "effort": "reasoning_effort",
    "reasoning": "reasoning_effort",
    "thinking": "reasoning_effort",
    "outputConfig.effort": "reasoning_effort",
    "output_config.effort": "reasoning_effort",
    "outputConfig.textFormat": "response_format",
    "toolConfig.toolChoice": "tool_choice",
    "toolChoice": "tool_choice",
    "toolConfig.tools": "tools",
    "tools": "tools",
}
"""What Converse and the models behind it call the fields of `ChatRequest`, as their 400s name them."""


def failure_of(error: Exception, exchange: Exchange, *, begun: bool = False) -> ProviderFailure:
    """What an exception out of boto3 means. `begun`: a stream whose first event had come."""
    from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped]

    if isinstance(error, EventStreamError):
        return _event(error.response, begun=begun)
    if not exchange.sent:
        # Of what was to be sent, not of the address: the client was made.
        return not_sent("aws", error) if isinstance(error, ValueError) else unsent(error)
    if isinstance(error, ClientError):
        return _from_response(error.response, exchange)
    return _without_response(error, exchange)


def _meaning(status: int, name: str, text: str) -> StatusMeaning:
    """By a name or by words that are known, or else by the status."""
    if known := find_refusal(BEDROCK, status, (name,), text):
        return known
    if status == 400 and name == "ValidationException":
        # Bedrock passes Claude's refusals on, and has some of the same form (strands-agents/harness-sdk#1223).
        models = text.removeprefix(MODELS_OWN_ERRORS)
        if known := find_refusal(ANTHROPIC, status, (), models):
            return known
        if begins_with_field(models):
            return REJECTED
    return meaning_of(status, _OWN_STATUSES)


def _failure(status: int, name: str, text: str, where: str, retry_after: float | None = None) -> ProviderFailure:
    kind, what = _meaning(status, name, text)
    see = f"; {_SEE[kind]}" if kind in _SEE else ""
    return ProviderFailure(
        kind,
        f"aws {what} ({where}){see}",
        retry_after=retry_after,
        # Other refusals hold account ids, which aren't the caller's business.
        caller_message=text if text and CONSEQUENCES[kind].health is Health.UNTOUCHED else None,
        param="thinking_blocks"
        if kind in OF_FORM and refuses_thoughts(text)
        else field_named(kind, text.removeprefix(MODELS_OWN_ERRORS), _FIELDS),
    )


def _status(status: int, name: str, text: str, headers: Mapping[str, str]) -> ProviderFailure:
    return _failure(status, name, text, f"HTTP {status}", retry_after_seconds(headers))


def _from_response(response: Mapping[str, object], exchange: Exchange) -> ProviderFailure:
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    return _status(exchange.status or 0, *_name_and_text(response), headers)


def _event(response: Mapping[str, object], *, begun: bool) -> ProviderFailure:
    name, text = _name_and_text(response)
    if begun or name not in _STATUS_OF_EVENT:
        return ProviderFailure(_K.STREAM_ERROR, "aws sent an error in the stream")
    known_as = name[0].upper() + name[1:]
    return _failure(_STATUS_OF_EVENT[name], known_as, text, "an event in the place of the answer")


def _name_and_text(response: Mapping[str, object]) -> tuple[str, str]:
    error = response.get("Error")
    name, text = (error.get("Code"), error.get("Message")) if isinstance(error, dict) else (None, None)
    return name if isinstance(name, str) else "", text if isinstance(text, str) else ""


def unsent(error: Exception) -> ProviderFailure:
    """What failed before a request left this machine: settings, credentials, or a request that the SDK refuses."""
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
    if isinstance(error, exceptions.BotoCoreError | exceptions.ClientError | OSError):
        return ProviderFailure(
            _K.CREDENTIAL_REJECTED, f"aws: no credentials could be had; {_SEE[_K.CREDENTIAL_REJECTED]}"
        )
    return not_sent("aws", error)


def _in_handshake(error: BaseException | None) -> bool:
    """Whether TLS failed before the request was sent. botocore raises the same where a record can't be read after it,
    and OpenSSL has the same words for both; the frames that the first of the errors went through tell them apart."""
    while error is not None:
        if any(frame.f_code.co_name == "do_handshake" for frame, _ in walk_tb(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _without_response(error: Exception, exchange: Exchange) -> ProviderFailure:
    """Sent, and then no answer, half of one, or one that botocore's parser gave up on."""
    import urllib3
    from botocore import exceptions

    if exchange.status is None:
        if isinstance(error, exceptions.ConnectTimeoutError):
            return ProviderFailure(_K.CONNECT_TIMEOUT, "aws didn't accept a connection in time")
        unconnected = isinstance(error, exceptions.EndpointConnectionError | exceptions.ProxyConnectionError)
        if unconnected or (isinstance(error, exceptions.SSLError) and _in_handshake(error)):
            return ProviderFailure(_K.CONNECT_FAILED, "aws can't be connected to")
    if isinstance(error, AnswerTooLarge):
        return too_large("aws")
    if isinstance(error, TimeIsOver | exceptions.ReadTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return ProviderFailure(_K.READ_TIMEOUT, "aws didn't answer in time")
    if isinstance(error, AnswerCut | urllib3.exceptions.HTTPError | exceptions.HTTPClientError | OSError):
        return ProviderFailure(_K.CONNECTION_LOST, "aws dropped the connection")
    if exchange.status is not None and exchange.status >= 300:
        return _status(exchange.status, "", "", {name.lower(): value for name, value in exchange.headers.items()})
    return malformed("aws")

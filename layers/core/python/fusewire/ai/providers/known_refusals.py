"""Refusals that are known by a code or by words: a table for each wire format, each row with its source.

Only what a vendor is known to refuse before any work is released; a 400 that isn't here is booked at its bound
(`BY_STATUS`). A 401 or a 403 says whether it concerns the credential, which cools the provider down for everybody, or
only the model or endpoint that was asked for, which a caller may choose.

A source is a vendor's page, or a public thread as `owner/name#number` of somebody who got that very answer.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.response_failures import StatusMeaning

_K = FailureKind

_DID: Final = {
    _K.REJECTED_REQUEST: "rejected the request",
    _K.FIELD_REFUSED: "doesn't take a field of the request for this model",
    _K.OUTPUT_CAP_REACHED: "reached the output cap without an answer",
    _K.PROMPT_REFUSED: "refused the prompt by its policy",
    _K.CONTENT_POLICY: "refused the content by its policy",
    _K.MODEL_NOT_FOUND: "knows no such model",
    _K.MODEL_DENIED: "denies access to the model",
    _K.CREDENTIAL_REJECTED: "denies this credential access",
    _K.OUT_OF_CREDIT: "has no credit left on this account",
    _K.RATE_LIMITED: "is throttling",
    _K.OVERLOADED: "is still making the model ready",
}
"""What the vendor did, in a failure's message, where a row doesn't say it in other words."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row: all that it names must be there."""

    kind: FailureKind
    source: str
    code: str | None = None
    """The error's code, type, name or reason."""
    words: str | None = None
    """A part of its message, in small letters."""
    statuses: tuple[int, ...] = (400, 422)
    did: str | None = None

    def matches(self, status: int, codes: Collection[object], message: str) -> bool:
        """:param message: in small letters"""
        return (
            status in self.statuses
            and (self.code is None or self.code in codes)
            and (self.words is None or self.words in message)
        )


def find_refusal(
    table: Sequence[Refusal], status: int, codes: Iterable[object], message: str | None
) -> StatusMeaning | None:
    """What the table's first row that matches means; None where none does.

    :param codes: whatever the error has of codes, types and names
    """
    named = [code for code in codes if isinstance(code, str)]
    text = (message or "").lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    row = next((row for row in table if row.matches(status, named, text)), None)
    return None if row is None else (row.kind, row.did or _DID[row.kind])


REJECTED: Final[StatusMeaning] = (_K.REJECTED_REQUEST, _DID[_K.REJECTED_REQUEST])


def _coded(kind: FailureKind, source: str, *codes: str) -> Iterator[Refusal]:
    for code in codes:
        yield Refusal(kind, source, code=code)


_AUTH: Final = (401, 403)
_NETWORK: Final = "refuses requests from this network"
_NO_ACCESS: Final = "gives this account no access to the model"

OPENAI: Final[tuple[Refusal, ...]] = (
    # --- after work, or perhaps after it ---
    Refusal(_K.OUTPUT_CAP_REACHED, "decolua/9router#972", words="could not finish the message because"),
    # Flagged while it reasoned: the refusal came after 9.9 s of processing.
    Refusal(_K.CONTENT_POLICY, "BeehiveInnovations/pal-mcp-server#178", code="invalid_prompt"),
    # --- policy, before any output ---
    Refusal(
        _K.PROMPT_REFUSED,
        "openai/openai-python#331; Microsoft, Content filtering: a filtered prompt is a 400, a filtered answer a 200",
        code="content_filter",
        words="due to the prompt triggering",
    ),
    Refusal(
        _K.PROMPT_REFUSED, "compl-ai/compl-ai#20", code="ResponsibleAIPolicyViolation", words="due to the prompt trigge"
    ),
    Refusal(_K.PROMPT_REFUSED, "openai/openai-openapi#11", words="your prompt may contain text that is not allowed"),
    # --- policy, of nobody knows what ---
    *_coded(
        _K.CONTENT_POLICY,
        "openai-python: ResponseError.code; Microsoft, Content filtering",
        *("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"),
        *("image_content_policy_violation", "bio_policy", "misalignment_policy_violation"),
    ),
    # --- the model, the credential, the account ---
    Refusal(_K.MODEL_NOT_FOUND, "cursor/cursor#2953", code="model_not_found", statuses=(400, 401, 403)),
    Refusal(
        _K.MODEL_DENIED, "BerriAI/litellm: key_model_access_denied", code="key_model_access_denied", statuses=_AUTH
    ),
    Refusal(_K.MODEL_DENIED, "winfunc/opcode#358", words="not allowed to access model", statuses=_AUTH),
    # A restricted key, or a role, that lacks this operation: embeddings may be forbidden where chat isn't.
    Refusal(
        _K.MODEL_DENIED,
        "microsoft/PowerToys#32989",
        words="insufficient permissions for this operation",
        statuses=_AUTH,
        did="lets this credential not do this",
    ),
    Refusal(
        _K.MODEL_DENIED,
        "Azure-Samples/azure-search-openai-demo#1870; microsoft/ai-agent-evals#43",
        code="PermissionDenied",
        statuses=_AUTH,
        did="lets this credential not do this",
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "home-assistant/core#120072",
        code="unsupported_country_region_territory",
        statuses=(403,),
        did=_NETWORK,
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "Azure-Samples/azure-sql-db-chatbot#3; continuedev/continue#12547",
        words="virtual network",
        statuses=(403,),
        did=_NETWORK,
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "TabularEditor/TabularEditor3#1557",
        words="public access is disabled",
        statuses=(403,),
        did=_NETWORK,
    ),
    # --- bad fields, before any work ---
    *_coded(
        _K.FIELD_REFUSED,
        "microsoft/vscode-copilot-release#9954",
        *("unsupported_parameter", "unsupported_value", "unknown_parameter"),
    ),
    Refusal(_K.FIELD_REFUSED, "coroot/coroot#698", words="unrecognized request argument"),
    Refusal(_K.FIELD_REFUSED, "ollama/ollama#13578; picobot#6", words="does not support tools"),
    Refusal(
        _K.FIELD_REFUSED, "BerriAI/litellm#11696; microsoft/sample-app-aoai-chatGPT#1260", words="extra inputs are not"
    ),
    Refusal(_K.FIELD_REFUSED, "langchain-ai/langchain#29679", words="are not allowed when extra-parameters is not set"),
    *_coded(
        _K.REJECTED_REQUEST,
        "epuerta9/deep-research-py#19; OpenAI's API reference",
        *("invalid_value", "invalid_type", "missing_required_parameter", "invalid_function_parameters"),
        *("string_above_max_length", "string_below_min_length", "array_above_max_length", "array_below_min_length"),
        *("integer_above_max_value", "integer_below_min_value", "decimal_above_max_value", "decimal_below_min_value"),
        *("empty_string", "empty_array", "invalid_json_schema", "duplicate_value"),
    ),
    *_coded(
        _K.REJECTED_REQUEST,
        "openai-python: ResponseError.code",
        *("invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url", "image_too_large"),
        *("image_too_small", "image_parse_error", "invalid_image_mode", "image_file_too_large", "empty_image_file"),
        *("unsupported_image_media_type", "failed_to_download_image", "image_file_not_found"),
    ),
    Refusal(_K.REJECTED_REQUEST, "rahul2002m/ChatPDF#6", code="context_length_exceeded"),
    Refusal(_K.REJECTED_REQUEST, "HKUSTDial/Alpha-SQL#5; ogx-ai/ogx#4534", words="maximum context length is"),
    Refusal(_K.REJECTED_REQUEST, "vllm-project/vllm#4667", words="max_tokens must be at least 1"),
    Refusal(_K.REJECTED_REQUEST, "ggml-org/llama.cpp#15780, #19774", code="exceed_context_size_error"),
    Refusal(_K.REJECTED_REQUEST, "dottxt-ai/outlines#1666", words="invalid schema for response_format"),
    Refusal(
        _K.REJECTED_REQUEST, "FoundationAgents/OpenManus#744", words="messages with role 'tool' must be a response"
    ),
    Refusal(_K.REJECTED_REQUEST, "QwenLM/qwen-code#2360", words='messages with role "tool" must be a response'),
    Refusal(_K.REJECTED_REQUEST, "ChatGPTNextWeb/NextChat#4064", words="we could not parse the json body"),
)
"""OpenAI's Chat Completions and embeddings, at OpenAI, Azure, vLLM, Ollama, llama.cpp and whoever else serves them."""

ANTHROPIC: Final[tuple[Refusal, ...]] = (
    # Of an answer that was being made: anthropics/claude-code#63717 tells of tokens that were used for it.
    Refusal(
        _K.CONTENT_POLICY,
        "anthropics/claude-code#58367, #63717",
        words="content filtering policy",
        statuses=(200, 400, 500),
    ),
    *(
        Refusal(_K.OUT_OF_CREDIT, "Anthropic, Errors", words=words)
        for words in ("credit balance is too low", "api usage limits")
    ),
    Refusal(_K.CREDENTIAL_REJECTED, "Anthropic, Errors", code="organization_on_hold", statuses=(400, 401, 403)),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "anthropics/claude-code#19028",
        words="organization has been disabled",
        statuses=(400, 401, 403),
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "enricoros/big-AGI#176; anthropics/claude-quickstarts#32",
        words="request not allowed",
        statuses=(403,),
        did=_NETWORK,
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "can1357/oh-my-pi#38",
        words="oauth token does not meet scope requirement",
        statuses=(403,),
    ),
    Refusal(_K.REJECTED_REQUEST, "anthropics/claude-code#59696", words="prompt is too long"),
    Refusal(_K.REJECTED_REQUEST, "docker/docker-agent#569", words="exceed context limit"),
    Refusal(_K.REJECTED_REQUEST, "anthropics/claude-code#39534", words="could not process image"),
    Refusal(_K.REJECTED_REQUEST, "anomalyco/opencode#28930", words="cannot both be specified for this model"),
)
"""Anthropic's Messages API. Its other refusals of a field begin with the field's name (`begins_with_field`)."""

BEDROCK: Final[tuple[Refusal, ...]] = (
    *(
        Refusal(
            _K.CREDENTIAL_REJECTED,
            "AWS, Common errors",
            code=name,
            statuses=(400, 401, 403),
            did="rejected the credential",
        )
        for name in (
            *("ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "IncompleteSignatureException"),
            *(
                "InvalidClientTokenId",
                "InvalidIdentityToken",
                "InvalidSignatureException",
                "MissingAuthenticationToken",
            ),
            *("MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired", "RequestExpired"),
            *("SignatureDoesNotMatch", "UnrecognizedClientException"),
        )
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "anomalyco/opencode#47073; ai4s-research/open-science#53",
        words="make sure your api key is valid",
        statuses=_AUTH,
        did="rejected the credential",
    ),
    Refusal(
        _K.CREDENTIAL_REJECTED,
        "Portkey-AI/gateway#440",
        words="security token included in the request",
        statuses=_AUTH,
        did="rejected the credential",
    ),
    # These come with a 400 too.
    Refusal(
        _K.RATE_LIMITED,
        "AWS, Common errors",
        code="ServiceQuotaExceededException",
        statuses=(400, 403, 429),
        did="says that the account's quota is used up",
    ),
    Refusal(_K.RATE_LIMITED, "AWS, Common errors", code="ThrottlingException", statuses=(400, 403, 429)),
    Refusal(_K.OVERLOADED, "AWS, Common errors", code="ModelNotReadyException", statuses=(400, 403, 429)),
    # --- the model ---
    Refusal(
        _K.MODEL_NOT_FOUND,
        "AWS, Troubleshooting Amazon Bedrock API error codes",
        words="model identifier is invalid",
        statuses=(400, 403),
    ),
    Refusal(
        _K.MODEL_NOT_FOUND,
        "AWS, Troubleshooting Amazon Bedrock API error codes",
        words="on-demand throughput isn",
        statuses=(400, 403),
        did="serves this model under an inference profile's id only (us., eu., global.)",
    ),
    # Third parties' models are sold by AWS Marketplace, so that these say nothing of Amazon's own.
    Refusal(
        _K.MODEL_DENIED,
        "Tracer-Cloud/opensre#1812",
        words="payment_instrument",
        statuses=(400, 403),
        did="has no valid means of payment for this model",
    ),
    Refusal(
        _K.MODEL_DENIED,
        "ministryofjustice/modernisation-platform-environments#18323",
        words="marketplace",
        statuses=(400, 403),
        did="has no AWS Marketplace subscription to the model for this account yet",
    ),
    *(
        Refusal(_K.MODEL_DENIED, source, words=words, statuses=(400, 403), did=_NO_ACCESS)
        for words, source in (
            ("have access to the model", "langgenius/dify#2829; anthropics/claude-code#536"),
            ("not authorized to access this model", "AWS, Troubleshooting Amazon Bedrock API error codes"),
            ("operation not allowed", "AWS, Troubleshooting Amazon Bedrock API error codes"),
        )
    ),
    # --- policy ---
    Refusal(_K.CONTENT_POLICY, "AWS, Amazon Titan models: errors", words="blocked by our content filters"),
    # --- bad fields, before any work ---
    *(
        Refusal(kind, source, code="ValidationException", words=words)
        for kind, words, source in (
            (_K.FIELD_REFUSED, "this model doesn't support", "earendil-works/pi#3739; strands-agents/harness-sdk#1241"),
            (_K.FIELD_REFUSED, ": extra inputs are not permitted", "BerriAI/litellm#13609"),
            (_K.REJECTED_REQUEST, "malformed input request", "lastmile-ai/mcp-agent#126"),
            (_K.REJECTED_REQUEST, "the value at ", "cognitect-labs/aws-api#272; kirodotdev/Kiro#11027"),
            (_K.REJECTED_REQUEST, "the format of the value at ", "aws/aws-sdk-net#3377"),
            (_K.REJECTED_REQUEST, "the content field at ", "aws-samples/sample-multi-agent-orchestration#15"),
            (_K.REJECTED_REQUEST, "expected toolresult blocks at ", "camel-ai/camel#3954; agno-agi/agno#6698"),
            (_K.REJECTED_REQUEST, "a conversation must start with a user message", "langgenius/dify#12340"),
            (_K.REJECTED_REQUEST, "toolconfig field must be defined", "patriceckhart/zot#18"),
            (_K.REJECTED_REQUEST, "maximum tokens you requested exceeds", "charmbracelet/crush#946"),
            (_K.REJECTED_REQUEST, "input is too long", "AWS, Troubleshooting Amazon Bedrock API error codes"),
            (_K.REJECTED_REQUEST, "failed to satisfy constraint", "AWS, Common errors: ValidationError"),
        )
    ),
)
"""Bedrock's Converse and InvokeModel. It passes a model's own refusals on, behind `MODELS_OWN_ERRORS`."""

MODELS_OWN_ERRORS: Final = "The model returned the following errors: "

GOOGLE: Final[tuple[Refusal, ...]] = (
    Refusal(
        _K.OUT_OF_CREDIT,
        "Google, ErrorReason",
        code="BILLING_DISABLED",
        statuses=(403,),
        did="has no billing for GCP_PROJECT_ID",
    ),
    *(
        Refusal(_K.CREDENTIAL_REJECTED, "Google, ErrorReason", code=reason, statuses=(400, *_AUTH))
        for reason in (
            *("SERVICE_DISABLED", "CONSUMER_INVALID", "CONSUMER_SUSPENDED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
            *("ACCESS_TOKEN_EXPIRED", "ACCESS_TOKEN_TYPE_UNSUPPORTED", "API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED"),
        )
    ),
    # The endpoint of all chat, whatever model is asked for.
    Refusal(
        _K.CREDENTIAL_REJECTED, "rhel-lightspeed/linux-mcp-server#450", words="/endpoints/openapi'", statuses=(403,)
    ),
    Refusal(_K.MODEL_DENIED, "yym68686/uni-api#41", words="is not allowed to use publisher model"),
    Refusal(_K.MODEL_DENIED, "Google, Control model access", words="constraints/vertexai.allowedmodels"),
    Refusal(_K.REJECTED_REQUEST, "googleapis/python-genai#2050", words="exceeds the maximum number of tokens allowed"),
    Refusal(_K.REJECTED_REQUEST, "warpdotdev/warp#15662", words="token count exceeds the maximum number of tokens"),
    Refusal(_K.REJECTED_REQUEST, "pydantic/pydantic-ai#3881", words="unable to submit request because"),
    Refusal(_K.REJECTED_REQUEST, "niki914/zafiro#100", words="function call is missing a thought_signature"),
    Refusal(
        _K.REJECTED_REQUEST, "google-gemini/gemini-cli#3814", words="please ensure that the number of function resp"
    ),
    Refusal(_K.REJECTED_REQUEST, "Google, Status.details", code="type.googleapis.com/google.rpc.BadRequest"),
    Refusal(_K.REJECTED_REQUEST, "Google, Status.details", words="invalid json payload received"),
    Refusal(_K.REJECTED_REQUEST, "langgenius/dify#8717", words="restricted harmblockthreshold"),
)
"""Vertex AI, beside the rows of `OPENAI`: its errors have Google's names."""

TABLES: Final = {"openai": OPENAI, "anthropic": ANTHROPIC, "bedrock": BEDROCK, "google": GOOGLE}

_ANTHROPIC_FIELDS: Final = frozenset({
    "container", "context_management", "max_tokens", "mcp_servers", "messages", "metadata", "model", "output_config",
    "output_format", "service_tier", "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice",
    "tools", "top_k", "top_p",
})  # fmt: skip


@cache
def _openai_fields() -> frozenset[str]:
    from fusewire.ai.schema import ChatRequest, EmbeddingRequest

    own = frozenset({"max_tokens", "max_completion_tokens", "stream_options", "encoding_format"})
    return own | frozenset(ChatRequest.model_fields) | frozenset(EmbeddingRequest.model_fields)


def is_field(param: object) -> bool:
    """Whether an error's `param` names a field that we send in OpenAI's format: `messages.[3].role`, `tools[0].type`.

    Such a refusal is of the request's form, which is looked at before any work (miurla/morphic#136).
    """
    return isinstance(param, str) and re.split(r"[.\[]", param, maxsplit=1)[0] in _openai_fields()


def begins_with_field(message: str | None) -> bool:
    """Whether a message of Anthropic's begins with a field of its Messages API, as a refusal of one does.

    `messages.19.content.27.image.source.base64.data: At least ...` (anthropics/claude-code#24630), `top_p: range: -1 or
    0..1` (anthropics/anthropic-sdk-typescript#484), "`max_tokens` must be greater than ..."
    """
    found = re.match(r"([a-z_]+)(?:\.[\w.-]+)?: |`([a-z_]+)[`.]", message or "")
    return found is not None and (found[1] or found[2]) in _ANTHROPIC_FIELDS


def is_validation_detail(body: object) -> bool:
    """Whether an error's body is what a server's own check of a request's form makes: `detail` by `loc`.

    Source: pydantic's errors as FastAPI and Mistral send them (BerriAI/litellm#3899, Gage-Technologies/mistral-go#2).
    """
    details = body.get("detail") if isinstance(body, dict) else None
    return isinstance(details, list) and bool(details) and all(isinstance(d, dict) and "loc" in d for d in details)

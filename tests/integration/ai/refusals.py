"""Refusals in vendors' own words, each as somebody got it: (status, the error as it came, kind, where it was seen).

By wire format; every provider that speaks it gets them all. Ids, names and addresses are made up.
"""

from typing import Any, Final

from fusewire.ai.failures import FailureKind
from tests.support.wires import AnthropicWire, BedrockWire, OpenAIWire, VertexWire, Wire

K = FailureKind
Refused = tuple[int, dict[str, Any], FailureKind, str]

_INVALID: Final = {"type": "invalid_request_error", "param": None, "code": None}
_FILTER: Final[dict[str, Any]] = {
    "type": None, "param": "prompt", "code": "content_filter", "status": 400,
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry.",
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
    },
}  # fmt: skip
_SAFETY: Final = (
    "Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by "
    "our safety system."
)
_MISSING_SCOPE: Final = "You have insufficient permissions for this operation. Missing scopes: model.request. Check"
_EXTRA: Final = [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted"}]
_FLAGGED: Final = "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again"


def _openai(message: str, **more: object) -> dict[str, Any]:
    return {"error": {**_INVALID, "message": message, **more}}


_OPENAI: Final[list[Refused]] = [
    # --- 2: after work, or nobody knows ---
    (400, _openai("Could not finish the message because max_tokens or model output limit was reached. Please try again "
                  "with higher max_tokens."), K.OUTPUT_CAP_REACHED, "decolua/9router#972"),
    (400, _openai(_FLAGGED, code="invalid_prompt"), K.CONTENT_POLICY, "BeehiveInnovations/pal-mcp-server#178"),
    (400, _openai("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed"),
     K.UNKNOWN_REFUSAL, "thepersonalaicompany/amurex-backend#38"),
    (400, _openai("Provider returned error", code=400), K.UNKNOWN_REFUSAL, "lobehub/lobehub#5994"),
    (400, {"error": {"message": "x", "type": "BadRequestError", "param": None, "code": 400}}, K.UNKNOWN_REFUSAL,
     "vLLM"),
    # --- 2: the prompt's policy ---
    (400, {"error": _FILTER}, K.PROMPT_REFUSED, "compl-ai/compl-ai#20"),
    (400, {"error": {**_FILTER, "message": _FILTER["message"].replace("'", "’"), "innererror": None}}, K.PROMPT_REFUSED,
     "openai/openai-python#331"),
    (400, _openai(_SAFETY), K.PROMPT_REFUSED, "openai/openai-openapi#11"),
    (400, _openai("filtered", code="content_filter"), K.CONTENT_POLICY, "whether prompt or answer: nobody says"),
    # --- 2: before any work ---
    (400, _openai("Unsupported parameter: 'max_tokens' is not supported with this model.", param="max_tokens",
                  code="unsupported_parameter"), K.FIELD_REFUSED, "microsoft/vscode-copilot-release#9954"),
    (400, _openai("Unrecognized request argument supplied: reasoning_effort"), K.FIELD_REFUSED, "coroot/coroot#698"),
    (400, _openai("registry.ollama.ai/library/gemma3:4b does not support tools", type="api_error"), K.FIELD_REFUSED,
     "louisho5/picobot#6"),
    (400, _openai("Invalid value: 'object'.", param="response_format.type", code="invalid_value"), K.REJECTED_REQUEST,
     "epuerta9/deep-research-py#19"),
    (400, _openai("Invalid schema for response_format 'default': In context=(), 'additionalProperties' is required.",
                  param="response_format"), K.REJECTED_REQUEST, "dottxt-ai/outlines#844"),
    (400, _openai("Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                  "'tool_calls'.", param="messages.[3].role"), K.REJECTED_REQUEST, "miurla/morphic#136"),
    (400, _openai("Messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                  code="invalid_request_error"), K.REJECTED_REQUEST, "FoundationAgents/OpenManus#744"),
    (400, {"error": {"code": 400, "message": "request (4390 tokens) exceeds the available context size (4096 tokens)",
                     "type": "exceed_context_size_error", "n_ctx": 4096}}, K.REJECTED_REQUEST,
     "ggml-org/llama.cpp#19774"),
    (400, {"object": "error", "message": "max_tokens must be at least 1, got -186.", "type": "BadRequestError",
           "param": None, "code": 400}, K.REJECTED_REQUEST, "vllm-project/vllm#4667"),
    (422, {"detail": _EXTRA}, K.REJECTED_REQUEST, "BerriAI/litellm#3899"),
    (422, {"object": "error", "message": {"detail": _EXTRA}, **_INVALID}, K.REJECTED_REQUEST,
     "Gage-Technologies/mistral-go#2"),
    (400, {"detail": "Extra parameters ['n'] are not allowed when extra-parameters is not set or set to be 'error'."},
     K.FIELD_REFUSED, "langchain-ai/langchain#29679"),
    # --- 12: the model's, or the endpoint's ---
    (403, _openai("Project `proj_1` does not have access to model `gpt-4o-mini`", code="model_not_found"),
     K.MODEL_NOT_FOUND, "cursor/cursor#2953"),
    (401, _openai("key not allowed to access model. This key can only access models=['gpt-5']", param="model",
                  type="key_model_access_denied", code="401"), K.MODEL_DENIED, "winfunc/opcode#358"),
    (403, _openai("User is not authorized to access model x or model does not exist", type="AuthorizationError"),
     K.MODEL_DENIED, "truefoundry/models#949"),
    (401, _openai(_MISSING_SCOPE), K.MODEL_DENIED, "microsoft/PowerToys#32989"),
    (401, {"error": {"code": "PermissionDenied", "message": "Principal does not have access to API/Operation."}},
     K.MODEL_DENIED, "Azure-Samples/azure-search-openai-demo#1870"),
    (403, {}, K.MODEL_DENIED, "nobody lists it"),
    # --- 12: the credential's ---
    (401, _openai("Incorrect API key provided", code="invalid_api_key"), K.CREDENTIAL_REJECTED, "OpenAI, Error codes"),
    (403, _openai("Country, region, or territory not supported", type="request_forbidden",
                  code="unsupported_country_region_territory"), K.CREDENTIAL_REJECTED, "home-assistant/core#120072"),
    (403, {"error": {"code": "403", "message": "Access denied due to Virtual Network/Firewall rules."}},
     K.CREDENTIAL_REJECTED, "Azure-Samples/azure-sql-db-chatbot#3"),
    (403, {"error": {"code": "403", "message": "A Virtual Network is configured for this resource. Please use the "
                     "correct endpoint"}}, K.CREDENTIAL_REJECTED, "continuedev/continue#12547"),
    (403, {"error": {"code": "403", "message": "Public access is disabled. Please configure private endpoint."}},
     K.CREDENTIAL_REJECTED, "TabularEditor/TabularEditor3#1557"),
]  # fmt: skip


def _anthropic(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


_ANTHROPIC: Final[list[Refused]] = [
    (400, _anthropic("Output blocked by content filtering policy"), K.CONTENT_POLICY, "anthropics/claude-code#58367"),
    (400, _anthropic("Error"), K.UNKNOWN_REFUSAL, "nobody lists it"),
    (400, _anthropic("weather: is not on the list"), K.UNKNOWN_REFUSAL, "no field begins like this"),
    (400, _anthropic("prompt is too long: 208656 tokens > 200000 maximum"), K.REJECTED_REQUEST,
     "anthropics/claude-code#59696"),
    (400, _anthropic("input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input"),
     K.REJECTED_REQUEST, "docker/docker-agent#569"),
    (400, _anthropic("Could not process image"), K.REJECTED_REQUEST, "anthropics/claude-code#39534"),
    (400, _anthropic("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
     K.REJECTED_REQUEST, "anomalyco/opencode#28930"),
    (400, _anthropic("messages.19.content.27.image.source.base64.data: At least one of the image dimensions exceed"),
     K.REJECTED_REQUEST, "anthropics/claude-code#24630"),
    (400, _anthropic("messages.65.content.1.tool_use.text: Extra inputs are not permitted"), K.REJECTED_REQUEST,
     "anthropics/claude-code#4378"),
    (400, _anthropic("top_p: range: -1 or 0..1"), K.REJECTED_REQUEST, "anthropics/anthropic-sdk-typescript#484"),
    (400, _anthropic("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"),
     K.REJECTED_REQUEST, "themaximalist/llm.js#30"),
    (403, _anthropic("Your API key does not have permission to use the specified resource", "permission_error"),
     K.MODEL_DENIED, "Anthropic, Errors"),
    (403, _anthropic("text", "permission_error"), K.MODEL_DENIED, "nobody lists it"),
    (401, _anthropic("invalid x-api-key", "authentication_error"), K.CREDENTIAL_REJECTED, "enricoros/big-AGI#176"),
    (403, {"error": {"type": "forbidden", "message": "Request not allowed"}}, K.CREDENTIAL_REJECTED,
     "anthropics/claude-quickstarts#32"),
    (403, _anthropic("OAuth token does not meet scope requirement any_of(user:inference)", "permission_error"),
     K.CREDENTIAL_REJECTED, "can1357/oh-my-pi#38"),
    (400, _anthropic("This organization has been disabled."), K.CREDENTIAL_REJECTED, "anthropics/claude-code#19028"),
]  # fmt: skip


def _bedrock(message: str, name: str = "ValidationException") -> dict[str, Any]:
    return {"__type": name, "message": message}


_DENIED: Final = "AccessDeniedException"
_ROLE: Final = "User: arn:aws:sts::111122223333:assumed-role/r/s is not authorized to perform: bedrock:InvokeModel"

_BEDROCK: Final[list[Refused]] = [
    (400, _bedrock("The model returned the following errors: text"), K.UNKNOWN_REFUSAL, "nobody lists it"),
    (400, _bedrock("The model returned the following errors: Output blocked by content filtering policy"),
     K.CONTENT_POLICY, "as Anthropic's own"),
    (400, _bedrock("The model returned the following errors: Malformed input request: #/toolConfig/tools/1/toolSpec/"
                   "inputSchema/json: extraneous key [$defs] is not permitted"), K.REJECTED_REQUEST,
     "lastmile-ai/mcp-agent#126"),
    (400, _bedrock("The model returned the following errors: `temperature` and `top_p` cannot both be specified for "
                   "this model."), K.REJECTED_REQUEST, "skydiscover-ai/skydiscover#15"),
    (400, _bedrock("The model returned the following errors: messages.48: Did not find 1 tool_result block(s) at the "
                   "beginning of this message."), K.REJECTED_REQUEST, "langchain-ai/langchain-aws#451"),
    (400, _bedrock("messages.4.content: Conversation blocks and tool result blocks cannot be provided in the same "
                   "turn."), K.REJECTED_REQUEST, "strands-agents/harness-sdk#1223"),
    (400, _bedrock("The value at toolConfig.tools.0.toolSpec.inputSchema.json.type must be one of the following: "
                   "object."), K.REJECTED_REQUEST, "cognitect-labs/aws-api#272"),
    (400, _bedrock("The format of the value at toolConfig.tools.0.toolSpec.inputSchema.json is invalid."),
     K.REJECTED_REQUEST, "aws/aws-sdk-net#3377"),
    (400, _bedrock("Expected toolResult blocks at messages.2.content for the following Ids: tooluse_1"),
     K.REJECTED_REQUEST, "camel-ai/camel#3954"),
    (400, _bedrock("A conversation must start with a user message. Try again with a conversation that starts with a "
                   "user message."), K.REJECTED_REQUEST, "langgenius/dify#12340"),
    (400, _bedrock("The maximum tokens you requested exceeds the model limit of 32768"), K.REJECTED_REQUEST,
     "charmbracelet/crush#946"),
    (400, _bedrock("This model doesn't support tool use in streaming mode."), K.FIELD_REFUSED,
     "earendil-works/pi#3739"),
    (400, _bedrock("This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any"),
     K.FIELD_REFUSED, "strands-agents/harness-sdk#1241"),
    (403, _bedrock("You don't have access to the model with the specified model ID.", _DENIED), K.MODEL_DENIED,
     "langgenius/dify#2829"),
    (403, _bedrock(f"{_ROLE} on resource: arn:aws:bedrock:us-east-1:111122223333:inference-profile/us.anthropic.x "
                   "because no session policy allows the bedrock:InvokeModel action", _DENIED), K.MODEL_DENIED,
     "anthropics/claude-code#541"),
    (403, _bedrock(f"{_ROLE} on resource: arn:aws:bedrock:::foundation-model/anthropic.x with an explicit deny in a "
                   "service control policy", _DENIED), K.MODEL_DENIED, "aws-samples/sample-badgers#33"),
    (403, _bedrock("Your account is not authorized to invoke this API operation.", _DENIED), K.MODEL_DENIED,
     "aws-samples/amazon-bedrock-workshop#100"),
    (403, _bedrock("Model access is denied due to INVALID_PAYMENT_INSTRUMENT:A valid payment instrument must be "
                   "provided.", _DENIED), K.MODEL_DENIED, "Tracer-Cloud/opensre#1812"),
    (403, _bedrock("Model access is denied due to IAM user or service role is not authorized to perform the required "
                   "AWS Marketplace actions (aws-marketplace:Subscribe)", _DENIED), K.MODEL_DENIED,
     "ministryofjustice/modernisation-platform-environments#18323"),
    (403, _bedrock("text", _DENIED), K.MODEL_DENIED, "nobody lists it"),
    (403, _bedrock("Authentication failed: Please make sure your API Key is valid.", _DENIED), K.CREDENTIAL_REJECTED,
     "anomalyco/opencode#47073"),
    (403, _bedrock("The security token included in the request is invalid.", "UnrecognizedClientException"),
     K.CREDENTIAL_REJECTED, "Portkey-AI/gateway#440"),
    (403, _bedrock("The security token included in the request is expired", "ExpiredTokenException"),
     K.CREDENTIAL_REJECTED, "AWS, Common errors"),
]  # fmt: skip


def _google(message: str, status: str = "INVALID_ARGUMENT", code: int = 400, *details: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def _reason(reason: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


_PREDICT: Final = "Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/projects/p"

_GOOGLE: Final[list[Refused]] = [
    (400, _google("Request contains an invalid argument."), K.UNKNOWN_REFUSAL, "nobody lists it"),
    (400, _google("The input token count (25270) exceeds the maximum number of tokens allowed (4000)."),
     K.REJECTED_REQUEST, "googleapis/python-genai#2050"),
    (400, _google("The input token count exceeds the maximum number of tokens allowed 1048576."), K.REJECTED_REQUEST,
     "warpdotdev/warp#15662"),
    (400, _google("Unable to submit request because function call `x` in the 2. content block is missing a "
                  "`thought_signature`."), K.REJECTED_REQUEST, "pydantic/pydantic-ai#3881"),
    (400, _google("Function call is missing a thought_signature in functionCall parts."), K.REJECTED_REQUEST,
     "niki914/zafiro#100"),
    (400, _google("Please ensure that the number of function response parts is equal to the number of function call "
                  "parts of the function call turn."), K.REJECTED_REQUEST, "google-gemini/gemini-cli#3814"),
    (400, _google("text", "INVALID_ARGUMENT", 400, {"@type": "type.googleapis.com/google.rpc.BadRequest",
                                                    "fieldViolations": [{"field": "contents"}]}), K.REJECTED_REQUEST,
     "Google, Status.details"),
    (400, _google("Project `p` is not allowed to use Publisher Model `projects/p/locations/l/publishers/anthropic/"
                  "models/claude`", "FAILED_PRECONDITION"), K.MODEL_DENIED, "yym68686/uni-api#41"),
    (403, _google(f"{_PREDICT}/locations/us-east4/publishers/google/models/gemini-pro' (or it may not exist).",
                  "PERMISSION_DENIED", 403, _reason("IAM_PERMISSION_DENIED")), K.MODEL_DENIED,
     "rpurinton/gemini-php#4"),
    (403, _google(f"{_PREDICT}/locations/us-central1/endpoints/1984' (or it may not exist).", "PERMISSION_DENIED", 403),
     K.MODEL_DENIED, "BerriAI/litellm#8597"),
    (403, _google(f"{_PREDICT}/locations/us-central1/endpoints/openapi' (or it may not exist).", "PERMISSION_DENIED",
                  403, _reason("IAM_PERMISSION_DENIED")), K.CREDENTIAL_REJECTED,
     "rhel-lightspeed/linux-mcp-server#450"),
    (403, _google("text", "PERMISSION_DENIED", 403, _reason("SERVICE_DISABLED")), K.CREDENTIAL_REJECTED,
     "Google, ErrorReason"),
    (403, _google("text", "PERMISSION_DENIED", 403, _reason("ACCESS_TOKEN_SCOPE_INSUFFICIENT")), K.CREDENTIAL_REJECTED,
     "Google, ErrorReason"),
    (403, _google("text", "PERMISSION_DENIED", 403), K.MODEL_DENIED, "nobody lists it"),
]  # fmt: skip

REFUSALS: Final[dict[type[Wire], list[Refused]]] = {
    OpenAIWire: _OPENAI,
    VertexWire: _GOOGLE,
    AnthropicWire: _ANTHROPIC,
    BedrockWire: _BEDROCK,
}

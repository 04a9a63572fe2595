"""Answers that are good in themselves and badly wrapped, in each vendor's protocol, with what is to become of them.

Each stands for a kind that somebody met: the source is a public report (`owner/name#number`) or issue 15 of our own.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support import anthropic_vendor, bedrock_vendor, upstream
from tests.support.wires import AnthropicWire, BedrockWire, OpenAIWire, VertexWire, Wire

INPUT, OUTPUT = 9, 4
"""Tokens that a proper answer tells."""


@dataclass
class Parts:
    """A proper answer, taken apart: what an envelope changes of it goes into the whole answer and the stream alike."""

    envelope: dict[str, Any]
    choice: dict[str, Any]
    message: dict[str, Any]
    usage: Any
    """None: left out."""
    usage_choices: Any = field(default_factory=list)
    """What a stream's usage has beside it."""
    events: list[dict[str, Any]] | None = None
    """A stream's events with the content, where they aren't made of the message."""


Change = Callable[[Parts], object]


@dataclass(frozen=True)
class Envelope:
    """One way to wrap an answer, and what it says all the same."""

    name: str
    source: str
    change: Change
    content: str | None = "Paris."
    finish: str = "stop"
    input: int | None = INPUT
    """Tokens; None where they aren't told, and booked at their bound."""
    output: int | None = OUTPUT
    thought: str = ""
    call: str | None = None
    """The arguments of the one call to `weather`."""
    streamed: bool | None = None
    """None: whole and as a stream."""


def usage(name: str, source: str, counted: object, input: int | None = INPUT, output: int | None = OUTPUT) -> Envelope:
    return Envelope(
        f"usage: {name}", source, lambda parts: setattr(parts, "usage", counted), input=input, output=output
    )


def put(part: str, **values: object) -> Change:
    return lambda parts: getattr(parts, part).update(values)


def without(part: str, *names: str) -> Change:
    def change(parts: Parts) -> None:
        for name in names:
            del getattr(parts, part)[name]

    return change


def openai_usage(prompt: object, completion: object, total: object = None, **details: object) -> dict[str, object]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return {**{name: n for name, n in counts.items() if n != "absent"}, **details}


def reasoned(tokens: int) -> dict[str, object]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


def calls(*parts: dict[str, Any]) -> Change:
    """The message's calls; in a stream, each in an event of its own."""

    def change(made: Parts) -> None:
        made.message = {"role": "assistant", "content": None, "tool_calls": [parts[0]]}
        made.choice["finish_reason"] = "tool_calls"
        made.events = [{"tool_calls": [part]} for part in parts]

    return change


WEATHER: Final = {"name": "weather", "arguments": '{"city": "Paris"}'}
CALLED: Final[dict[str, Any]] = {"content": None, "finish": "tool_calls", "call": '{"city": "Paris"}'}


def finish(theirs: object, source: str, ours: str) -> Envelope:
    return Envelope(f"finish: {theirs!r}", source, put("choice", finish_reason=theirs), finish=ours)


def _no_choices(parts: Parts) -> None:
    parts.choice.clear()


OPENAI: Final = [
    Envelope(
        "usage beside choices that are null", "issue 15", _no_choices, content=None, finish="length", streamed=False
    ),
    usage("nothing in it", "issue 15", {}, None, None),
    usage("a list", "issue 15", [], None, None),
    usage("a text", "issue 15", "many", None, None),
    usage("output null", "googleapis/python-genai#1836", openai_usage(9, None), 9, None),
    usage("output null, told by the total", "googleapis/python-genai#1836", openai_usage(9, None, 13)),
    usage("output absent", "issue 15", {"prompt_tokens": 9}, 9, None),
    usage("output a fraction", "issue 15", openai_usage(9, 12.5), 9, None),
    usage("output a text", "issue 15", openai_usage(9, "x"), 9, None),
    usage("output a text of digits", "issue 15", openai_usage(9, "4")),
    usage("output below 0", "64bit/async-openai#404", openai_usage(9, -35, -26), 9, None),
    usage("output beyond any count", "issue 15", openai_usage(9, 1e40), 9, None),
    usage("input null", "issue 15", openai_usage(None, 4), None, 4),
    usage("input below 0", "issue 15", openai_usage(-1, 4), None, 4),
    usage("input a text", "issue 15", openai_usage("x", 4, 13), None, 4),
    usage("input alone told, by a list of details", "issue 15", openai_usage(9, [], prompt_tokens_details=[]), 9, None),
    usage("details a list", "issue 15", openai_usage(9, 4, 13, prompt_tokens_details=[])),
    usage("details null", "typedef-ai/fenic#380", openai_usage(9, 4, 13, completion_tokens_details=None)),
    usage(
        "a count in the details null",
        "typedef-ai/fenic#380",
        openai_usage(9, 4, 13, prompt_tokens_details={"cached_tokens": None}),
    ),
    usage("all 0 beside content", "BerriAI/litellm#38065", openai_usage(0, 0, 0), None, None),
    usage("input 0 beside output", "MiXaiLL76/auto_ai_router#142", openai_usage(0, 4, 4), None, 4),
    usage("output 0 beside content", "BerriAI/litellm#38065", openai_usage(9, 0, 9), 9, None),
    usage("total 0", "issue 15", openai_usage(9, 4, 0)),
    usage("total absent", "issue 15", openai_usage(9, 4, "absent")),
    usage("total too small", "issue 15", openai_usage(9, 4, 10)),
    usage("total a text", "issue 15", openai_usage(9, 4, "x")),
    usage(
        "reasoning beside the completion",
        "UKGovernmentBEIS/inspect_ai#5528",
        openai_usage(12, 1, 110, **reasoned(97)),
        12,
        98,
    ),
    usage(
        "reasoning beside the completion, priced by xAI",
        "Wei-Shaw/sub2api#5771",
        openai_usage(10120, 1499, 14428, **reasoned(2809)),
        10120,
        4308,
    ),
    usage("reasoning within the completion", "vercel/ai#12425", openai_usage(335, 305, 640, **reasoned(284)), 335, 305),
    usage(
        "reasoning alone is output", "router-for-me/CLIProxyAPI#5733", openai_usage(21, 0, 81, **reasoned(60)), 21, 60
    ),
    usage(
        "reasoning one more than the output",
        "vercel/ai#18614",
        openai_usage(951, 6000, 6952, **reasoned(6001)),
        951,
        6001,
    ),
    usage(
        "reasoning beyond the output, no total",
        "anomalyco/opencode#26073",
        openai_usage(9, 4, "absent", **reasoned(50)),
        9,
        54,
    ),
    Envelope("no usage", "issue 15", put("envelope"), input=None, output=None),
    Envelope("no id, created or model", "openai/openai-python#2806", without("envelope", "id", "created", "model")),
    Envelope(
        "an empty id and model, created a text",
        "openai/openai-python#2806",
        put("envelope", id="", model=None, created="now"),
    ),
    Envelope("no index", "issue 15", without("choice", "index")),
    Envelope("an empty role", "vercel/ai#15464", put("message", role="")),
    Envelope("no role", "Effect-TS/effect#8333", without("message", "role")),
    Envelope("another role", "issue 15", put("message", role="model")),
    Envelope("no calls as a list", "vllm-project/vllm#44104", put("message", tool_calls=[])),
    Envelope("no calls as null", "Effect-TS/effect#8333", put("message", tool_calls=None)),
    Envelope(
        "usage beside no choices",
        "pydantic/pydantic-ai#5170",
        lambda parts: setattr(parts, "usage_choices", None),
        streamed=True,
    ),
    Envelope(
        "content in parts",
        "microsoft/agent-framework#6978",
        put(
            "message",
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                {"type": "text", "text": "Paris."},
            ],
        ),
        thought="Hm.",
    ),
    Envelope("reasoning", "vllm-project/vllm#50624", put("message", reasoning="Hm."), thought="Hm."),
    Envelope(
        "reasoning under both names",
        "vllm-project/vllm#34030",
        put("message", reasoning="Hm.", reasoning_content="Hm."),
        thought="Hm.",
    ),
    Envelope(
        "reasoning beside an empty reasoning_content",
        "leookun/cursor-byok#363",
        put("message", reasoning="Hm.", reasoning_content=""),
        thought="Hm.",
    ),
    Envelope(
        "reasoning as an object",
        "envoyproxy/ai-gateway#1222",
        put("message", reasoning_content={"text": "Hm."}),
        thought="Hm.",
    ),
    Envelope(
        "reasoning in details",
        "huggingface/responses.js#19",
        put(
            "message",
            reasoning=None,
            reasoning_details=[{"type": "reasoning.text", "text": "Hm."}, {"type": "reasoning.encrypted", "data": "x"}],
        ),
        thought="Hm.",
    ),
    finish("", "BerriAI/litellm#20732", "stop"),
    finish(None, "pydantic/pydantic-ai#6610", "stop"),
    finish("eos", "vibrantlabsai/ragas#1548", "stop"),
    finish("eos_token", "mistralai/client-python#123", "stop"),
    finish("abort", "earendil-works/pi#1509", "length"),
    finish("error", "pydantic/pydantic-ai#2844", "length"),
    finish("network_error", "earendil-works/pi#1509", "length"),
    finish("malformed_tool_use", "vercel/ai#16926", "length"),
    finish("function_call_filter: MALFORMED_FUNCTION_CALL", "googleapis/python-genai#1836", "length"),
    finish("content_filter: PROHIBITED_CONTENT", "googleapis/python-genai#1836", "content_filter"),
    finish("sensitive", "earendil-works/pi#1509", "content_filter"),
    finish("guardrail_intervened", "pydantic/pydantic-ai#7816", "content_filter"),
    Envelope(
        "a call of an empty type",
        "vercel/ai#12939",
        calls({"index": 0, "id": "c", "type": "", "function": WEATHER}),
        **CALLED,
    ),
    Envelope(
        "a call without id and type", "oracle/langchain-oracle#91", calls({"index": 0, "function": WEATHER}), **CALLED
    ),
    Envelope("a call without index and id", "openai/openai-python#2806", calls({"function": WEATHER}), **CALLED),
    Envelope(
        "a call in parts without index",
        "open-webui/computer#224",
        calls(
            {"id": "c", "function": {"name": "weather", "arguments": ""}},
            {"function": {"arguments": '{"city": '}},
            {"id": "", "type": "", "function": {"name": "", "arguments": '"Paris"}'}},
        ),
        streamed=True,
        **CALLED,
    ),
    Envelope(
        "a call's id and name empty as it goes on",
        "anomalyco/opencode#37841",
        calls(
            {"index": 0, "id": "c", "function": {"name": "weather", "arguments": '{"city": '}},
            {"index": 0, "id": "", "function": {"name": "", "arguments": '"Paris"}'}},
        ),
        streamed=True,
        **CALLED,
    ),
    Envelope(
        "a call's arguments as an object",
        "issue 15",
        calls({"index": 0, "id": "c", "function": {"name": "weather", "arguments": {"city": "Paris"}}}),
        content=None,
        finish="tool_calls",
        call='{"city":"Paris"}',
    ),
    Envelope(
        "a call that is said to stop",
        "open-webui/computer#224",
        lambda parts: (
            calls({"index": 0, "id": "c", "function": WEATHER})(parts),
            parts.choice.update(finish_reason=""),
        ),
        **CALLED,
    ),
]


def openai_parts(model: str) -> Parts:
    return Parts(
        {"id": "c", "object": "chat.completion", "created": 1, "model": model},
        {"index": 0, "finish_reason": "stop"},
        {"role": "assistant", "content": "Paris."},
        openai_usage(INPUT, OUTPUT, INPUT + OUTPUT),
    )


def _openai_reply(envelope: Envelope) -> upstream.Reply:
    def reply(handler: upstream.Handler, body: dict[str, Any]) -> None:
        parts = openai_parts(body["model"])
        envelope.change(parts)
        counted = {} if envelope.name == "no usage" else {"usage": parts.usage}
        if not body.get("stream"):
            choices = [{**parts.choice, "message": parts.message}] if parts.choice else None
            handler.reply(200, {**parts.envelope, "choices": choices, **counted})
            return
        handler.begin_events()
        for delta in parts.events or [parts.message]:
            handler.event({**parts.envelope, "choices": [{**parts.choice, "delta": delta, "finish_reason": None}]})
        handler.event({**parts.envelope, "choices": [{**parts.choice, "delta": {}}]})
        if counted:
            handler.event({**parts.envelope, "choices": parts.usage_choices, **counted})
        handler.event("[DONE]")
        handler.end_events()

    return reply


def _claude(input: object, output: object, **more: object) -> dict[str, object]:
    return {"input_tokens": input, "output_tokens": output, **more}


ANTHROPIC: Final = [
    usage("nothing in it", "issue 15", {}, None, None),
    usage("a list", "issue 15", [], None, None),
    usage("output null", "issue 15", _claude(9, None), 9, None),
    usage("output a fraction", "issue 15", _claude(9, 12.5), 9, None),
    usage("output below 0", "issue 15", _claude(9, -1), 9, None),
    usage("input a text", "issue 15", _claude("x", 4), None, 4),
    usage("input beyond any count", "issue 15", _claude(2**60, 4), None, 4),
    usage("input alone 0, a placeholder", "MiXaiLL76/auto_ai_router#142", _claude(0, 4), None, 4),
    usage("a cache's count below 0", "issue 15", _claude(9, 4, cache_read_input_tokens=-1), None, 4),
    usage("a cache's counts null", "issue 15", _claude(9, 4, cache_read_input_tokens=None, cache_creation=None)),
    usage("a cache's ages as a list", "issue 15", _claude(9, 4, cache_creation=[])),
    usage("details a list", "issue 15", _claude(9, 4, output_tokens_details=[])),
    Envelope("no id, type or model", "issue 15", without("envelope", "id", "type", "model")),
    Envelope("an empty id and model", "issue 15", put("envelope", id="", model="")),
    Envelope("an empty role", "issue 15", put("envelope", role="")),
    Envelope("finish: ''", "issue 15", put("choice", stop_reason="")),
    Envelope("finish: None", "issue 15", put("choice", stop_reason=None)),
    Envelope("finish: 'abort'", "issue 15", put("choice", stop_reason="abort"), finish="length"),
    Envelope("a block without its type", "issue 15", without("message", "type")),
    Envelope(
        "a call without its id", "issue 15", lambda parts: _claude_call(parts), **CALLED | {"call": '{"city":"Paris"}'}
    ),
]


def _claude_call(parts: Parts) -> None:
    parts.message = {"type": "tool_use", "name": "weather", "input": {"city": "Paris"}}
    parts.choice["stop_reason"] = "tool_use"


def _anthropic_reply(envelope: Envelope) -> anthropic_vendor.Reply:
    def reply(handler: anthropic_vendor.Handler, body: dict[str, Any]) -> None:
        parts = Parts(
            {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]},
            {"stop_reason": "end_turn", "stop_sequence": None},
            {"type": "text", "text": "Paris."},
            _claude(INPUT, OUTPUT),
        )
        envelope.change(parts)
        if not body.get("stream"):
            handler.reply(200, {**parts.envelope, "content": [parts.message], **parts.choice, "usage": parts.usage})
            return
        handler.begin_events()
        first = parts.usage | {"output_tokens": 1} if isinstance(parts.usage, dict) and parts.usage else parts.usage
        handler.event("message_start", message={**parts.envelope, "content": [], "usage": first})
        handler.event("content_block_start", index=0, content_block=parts.message)
        handler.event("content_block_stop", index=0)
        handler.event("message_delta", delta=parts.choice, usage=parts.usage)
        handler.event("message_stop")
        handler.end_events()

    return reply


def _converse(input: object, output: object, **more: object) -> dict[str, object]:
    return {"inputTokens": input, "outputTokens": output, **more}


BEDROCK: Final = [
    usage("nothing in it", "issue 15", {}, None, None),
    usage("a list", "issue 15", [], None, None),
    usage("output null", "issue 15", _converse(9, None), 9, None),
    Envelope(
        "usage: output a fraction, which botocore cuts off in a whole answer",
        "issue 15",
        put("usage", outputTokens=12.5),
        output=12,
        streamed=False,
    ),
    Envelope(
        "usage: output a fraction in a stream", "issue 15", put("usage", outputTokens=12.5), output=None, streamed=True
    ),
    usage("output a text", "issue 15", _converse(9, "x"), 9, None),
    usage("output below 0", "issue 15", _converse(9, -1), 9, None),
    usage("input a text", "issue 15", _converse("x", 4), None, 4),
    usage("input beyond any count", "issue 15", _converse(1e40, 4), None, 4),
    usage("all 0 beside content", "issue 15", _converse(0, 0), None, None),
    usage("a cache's count below 0", "issue 15", _converse(9, 4, cacheReadInputTokens=-1), None, 4),
    usage("a cache's details as an object", "issue 15", _converse(9, 4, cacheDetails={}), 9, 4),
    Envelope("finish: ''", "issue 15", put("choice", stopReason="")),
    Envelope("finish: absent", "issue 15", without("choice", "stopReason")),
    Envelope(
        "finish: 'malformed_tool_use'",
        "UKGovernmentBEIS/inspect_ai#2941",
        put("choice", stopReason="malformed_tool_use"),
        finish="length",
    ),
    Envelope(
        "finish: 'malformed_model_output'",
        "pydantic/pydantic-ai#5640",
        put("choice", stopReason="malformed_model_output"),
        finish="length",
    ),
    Envelope(
        "finish: 'of_tomorrow'", "agentjido/req_llm#1033", put("choice", stopReason="of_tomorrow"), finish="length"
    ),
    Envelope("an empty role", "issue 15", put("envelope", role="")),
    Envelope("no role", "issue 15", without("envelope", "role")),
    Envelope(
        "metrics a list",
        "issue 15",
        lambda parts: setattr(parts, "usage_choices", {"metrics": []}),
        streamed=False,
    ),
    Envelope(
        "metrics a list, for which botocore gives up on the event with the usage",
        "issue 15",
        lambda parts: setattr(parts, "usage_choices", {"metrics": []}),
        input=None,
        output=None,
        streamed=True,
    ),
    Envelope(
        "no usage, and no end after the reason",
        "BerriAI/litellm#32686",
        lambda parts: setattr(parts, "usage", None),
        input=None,
        output=None,
    ),
    Envelope(
        "a call without its id",
        "issue 15",
        lambda parts: _converse_call(parts),
        **CALLED | {"call": '{"city":"Paris"}'},
    ),
]


def _converse_call(parts: Parts) -> None:
    parts.message = {"toolUse": {"name": "weather", "input": {"city": "Paris"}}}
    parts.events = [
        {"contentBlockStart": {"start": {"toolUse": {"name": "weather"}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"city":"Paris"}'}}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
    ]
    parts.choice["stopReason"] = "tool_use"


def _bedrock_reply(envelope: Envelope) -> bedrock_vendor.Reply:
    def reply(handler: bedrock_vendor.Handler, body: dict[str, Any]) -> None:
        parts = Parts(
            {"role": "assistant"},
            {"stopReason": "end_turn"},
            {"text": "Paris."},
            _converse(INPUT, OUTPUT, totalTokens=INPUT + OUTPUT),
            {"metrics": {"latencyMs": 7}},
        )
        envelope.change(parts)
        counted = {} if parts.usage is None else {"usage": parts.usage, **parts.usage_choices}
        if handler.action[1] == "converse":
            output = {"message": {**parts.envelope, "content": [parts.message]}}
            handler.reply(200, {"output": output, **parts.choice, **counted})
            return
        handler.begin_events()
        handler.event("messageStart", parts.envelope)
        word = {"contentBlockDelta": {"delta": parts.message, "contentBlockIndex": 0}}
        for event in parts.events or [word]:
            ((kind, payload),) = event.items()
            handler.event(kind, payload)
        handler.event("messageStop", parts.choice)
        if counted:
            handler.event("metadata", counted)
        handler.end_events()

    return reply


_REPLIES: Final[Mapping[type[Wire], Callable[[Envelope], Any]]] = {
    OpenAIWire: _openai_reply,
    VertexWire: _openai_reply,
    AnthropicWire: _anthropic_reply,
    BedrockWire: _bedrock_reply,
}


def will_wrap(wire: Wire, envelope: Envelope) -> None:
    """The next request gets this, whole or as a stream."""
    wire.server.script.append(_REPLIES[type(wire)](deepcopy(envelope)))

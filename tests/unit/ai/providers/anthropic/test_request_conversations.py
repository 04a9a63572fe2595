"""The mapping of a conversation: roles, content, images, tool calls; whatever comes out is what Anthropic takes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.failures import UnsupportedField
from fusewire.ai.providers.anthropic.request import message_body
from tests.support.anthropic_rules import complaint
from tests.unit.ai.providers.anthropic.requests import (
    NEW,
    NEW_VERSION,
    OLD,
    PNG,
    USER,
    WEATHER,
    asks,
    body,
    call,
    refused,
    request,
    result,
    text,
)

# --- system and developer messages ---


LATER = [
    {"role": "system", "content": "One."},
    USER,
    {"role": "assistant", "content": "Hi"},
    {"role": "developer", "content": [text("Two."), text(" "), text("Three.")]},
    {"role": "user", "content": "Bye"},
]


def test_system_and_developer_messages_go_to_the_front_in_order() -> None:
    actual = body(request(messages=LATER), OLD)
    assert actual["system"] == [text("One.\nTwo.\nThree.")]
    assert [turn["role"] for turn in actual["messages"]] == ["user", "assistant", "user"]


def test_a_newer_claude_gets_later_ones_behind_the_users_turn() -> None:
    actual = body(request(messages=LATER), NEW)
    assert actual["system"] == [text("One.")]
    assert [turn["role"] for turn in actual["messages"]] == ["user", "assistant", "user", "system"]
    assert actual["messages"][-1]["content"] == [text("Two.\nThree.")]
    longer = [*LATER, {"role": "assistant", "content": "Bye"}, {"role": "system", "content": "Three."}, USER]
    grown = body(request(messages=longer), NEW)
    assert grown["messages"][:4] == actual["messages"], "what was sent before stays as it was"
    assert [turn["role"] for turn in grown["messages"][4:]] == ["assistant", "user", "system"]


def test_a_blank_system_message_is_none() -> None:
    assert "system" not in body(request(messages=[{"role": "system", "content": " "}, USER]))


# --- content ---


def test_neighbours_of_one_role_are_one_turn() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b"), text("c")]},
        {"role": "assistant", "content": "d"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "e"}], "refusal": "f"},
        {"role": "user", "content": "g"},
    ]
    assert body(request(messages=messages))["messages"] == [
        {"role": "user", "content": [text("a"), text("b"), text("c")]},
        {"role": "assistant", "content": [text("d"), text("e"), text("f")]},
        {"role": "user", "content": [text("g")]},
    ]


def test_blank_text_stays_with_what_it_follows() -> None:
    parts = [text("\n"), text("a"), text("\n\n"), text("b"), text("")]
    actual = body(request(messages=[{"role": "user", "content": parts}]))
    assert actual["messages"][0]["content"] == [text("a\n\n"), text("b")]


def test_an_empty_answer_of_before_is_no_turn() -> None:
    messages = [USER, {"role": "assistant", "content": ""}, {"role": "user", "content": "Well?"}]
    assert body(request(messages=messages))["messages"] == [
        {"role": "user", "content": [text("Hello"), text("Well?")]},
    ]


def test_a_conversation_may_begin_with_the_assistant() -> None:
    actual = body(request(messages=[{"role": "assistant", "content": "How can I help?"}, USER]))
    assert [turn["role"] for turn in actual["messages"]] == ["assistant", "user"]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (PNG, {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
        ("data:image/jpg;base64,/9j/", {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}),
        ("DATA:image/GIF; charset=x ;base64,R0", {"type": "base64", "media_type": "image/gif", "data": "R0"}),
        ("https://example.org/a.png?x=1#y", {"type": "url", "url": "https://example.org/a.png?x=1#y"}),
        ("https://example.org", {"type": "url", "url": "https://example.org"}),
        ("HTTPS://cdn.example.org:8443/a", {"type": "url", "url": "HTTPS://cdn.example.org:8443/a"}),
    ],
)
def test_images(url: str, source: dict[str, Any]) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}, text("What is it?")]
    actual = body(request(messages=[{"role": "user", "content": parts}]))
    assert actual["messages"][0]["content"] == [{"type": "image", "source": source}, text("What is it?")]


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,raw",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png;base64",
        "data:;base64,AAAA",
        "http://example.org/a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/a.png",
        "https://localhost/a.png",
        "https://user:secret@example.org/a.png",
        "https://example.org@127.0.0.1/a.png",
        "https://example.org/a b.png",
        "file:///etc/passwd",
        "gs://bucket/a.png",
        "ftp://example.org/a.png",
        "//example.org/a.png",
        "https://",
        "",
    ],
)
def test_other_images_are_refused(url: str) -> None:
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    assert refused(request(messages=[message])) == "messages"


def test_an_address_goes_to_anthropics_own_endpoint_only() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = request(messages=[{"role": "user", "content": [part]}])
    assert refused(asked, remote_images=False) == "messages"
    part["image_url"] = {"url": PNG}
    assert body(request(messages=[{"role": "user", "content": [part]}]), remote_images=False)


# --- tool calls ---


def test_tool_calls_and_their_results_in_order() -> None:
    messages = [
        USER,
        asks(call("b"), call("a", arguments=""), content="Let me look."),
        {"role": "system", "content": "Stay calm."},
        result("b", [text("sunny"), text(" "), text("warm")]),
        result("a", ""),
        {"role": "user", "content": "And?"},
    ]
    actual = body(request(messages=messages, tools=[WEATHER]), NEW)["messages"]
    assert actual[1:] == [
        {
            "role": "assistant",
            "content": [
                text("Let me look."),
                {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": [text("sunny "), text("warm")]},
                {"type": "tool_result", "tool_use_id": "a"},
                text("And?"),
            ],
        },
        {"role": "system", "content": [text("Stay calm.")]},
    ]


def test_other_vendors_ids_are_made_fit_on_both_sides() -> None:
    messages = [
        USER,
        asks(call("functions.weather:0"), call("functions_weather_0"), call("")),
        result("functions.weather:0"),
        result("functions_weather_0"),
        result(""),
        asks(call("functions.weather:0")),
        result("functions.weather:0", "rainy"),
    ]
    actual = body(request(messages=messages, tools=[WEATHER]))["messages"]
    ids = [block["id"] for turn in actual for block in turn["content"] if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for turn in actual for block in turn["content"] if block["type"] == "tool_result"]
    assert ids == answered == ["functions_weather_0", "functions_weather_0_2", "_", "functions_weather_0_3"]


def test_a_conversation_with_tool_calls_keeps_its_tools_and_may_call_none() -> None:
    messages = [USER, asks(call()), result(), asks(call("call_2", "time", "{}")), result("call_2")]
    actual = body(request(messages=messages))
    assert actual["tool_choice"] == {"type": "none"}
    assert actual["tools"] == [
        {"name": "weather", "input_schema": {"type": "object"}},
        {"name": "time", "input_schema": {"type": "object"}},
    ]


# --- cache breakpoints ---

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def test_cache_breakpoints_travel() -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}, "cache_control": MARK}
    messages = [
        {"role": "system", "content": [text("a"), text("b", cache_control=HOUR), text("c")]},
        {"role": "user", "content": [text("d", cache_control=MARK), image]},
        asks(call(), content=[text("e", cache_control=MARK)]),
        result(content=[text("f"), text("g", cache_control=HOUR)]),
    ]
    actual = body(request(messages=messages, tools=[WEATHER, WEATHER | {"cache_control": HOUR}]))
    assert actual["system"] == [text("a\nb", cache_control=HOUR), text("c")]
    assert [tool.get("cache_control") for tool in actual["tools"]] == [None, HOUR]
    user, assistant, results = (turn["content"] for turn in actual["messages"])
    assert [block["cache_control"] for block in user] == [MARK, MARK]
    assert assistant[0] == text("e", cache_control=MARK)
    assert results == [
        {
            "type": "tool_result",
            "tool_use_id": "call_1",
            "content": [text("f"), text("g")],
            "cache_control": HOUR,
        }
    ]


def test_a_breakpoint_on_blank_text_stands_after_what_it_follows() -> None:
    parts = [text("a"), text("", cache_control=MARK)]
    actual = body(request(messages=[{"role": "user", "content": parts}]))
    assert actual["messages"][0]["content"] == [text("a", cache_control=MARK)]


# --- properties ---

WORDS = st.text(st.sampled_from("ab \n.,{}é中"), max_size=6)
PARTS = st.lists(st.builds(text, WORDS), max_size=3)
IDS = st.sampled_from(["a", "b", "a.b", "a_b", "call:1", ""])
CALLS = st.lists(st.builds(call, IDS, st.sampled_from(["weather", "time"]), st.just("{}")), max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """As an application sends them: each call is answered right after it."""
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "calls"]))
        content = draw(WORDS | PARTS)
        if role == "calls":
            calls = {c["id"]: c for c in draw(CALLS)}
            messages.append(asks(*calls.values(), content=content))
            messages += [result(name, draw(WORDS | PARTS)) for name in draw(st.permutations(list(calls)))]
        else:
            messages.append({"role": role, "content": content})
    return messages


def visible(content: object) -> str:
    parts = [content] if isinstance(content, str) else [p["text"] for p in content or []]  # type: ignore[attr-defined]
    return "".join("".join(parts).split())


def sent_text(blocks: list[dict[str, Any]]) -> str:
    said = (block["text"] if block["type"] == "text" else sent_text(block.get("content", [])) for block in blocks)
    return "".join("".join(said).split())


@given(messages=conversations(), tools=st.booleans(), model=st.sampled_from([OLD, "claude-opus-4-8", NEW]))
def test_whatever_is_sent_is_taken_and_says_the_same(messages: list[dict[str, Any]], tools: bool, model: str) -> None:
    asked = request(messages=messages, **({"tools": [WEATHER]} if tools else {}))
    try:
        actual = message_body(asked, model, 64, remote_images=True)
    except UnsupportedField as refused:
        assert refused.param == "messages"
        return
    assert complaint(actual, NEW_VERSION) is None
    of_system = [m for m in messages if m["role"] in ("system", "developer")]
    others = [m for m in messages if m not in of_system]
    said = [actual.get("system", []), *(turn["content"] for turn in actual["messages"] if turn["role"] == "system")]
    assert "".join(map(sent_text, said)) == "".join(visible(m["content"]) for m in of_system)
    turns = [turn["content"] for turn in actual["messages"] if turn["role"] != "system"]
    assert "".join(map(sent_text, turns)) == "".join(visible(m["content"]) for m in others)
    assert json.dumps(actual)

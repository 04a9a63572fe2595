"""An answer's blocks: one after the other, however a stream goes to and fro."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.schema import ResponseMessage, StreamChunk
from fusewire.http.blocks import BlockReader, Step, blocks_of


def chunk(delta: dict[str, Any], finish: str | None = None, **more: object) -> StreamChunk:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return StreamChunk.model_validate({"id": "c", "created": 1, "model": "m", "choices": choices, **more})


def call(index: int, arguments: str | None = None, **more: object) -> dict[str, Any]:
    function = {name: value for name, value in (("name", more.pop("name", None)), ("arguments", arguments)) if value}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def read(*deltas: dict[str, Any]) -> list[Step]:
    reader = BlockReader()
    return [*(step for delta in deltas for step in reader.read(chunk(delta))), *reader.end()]


def shown(steps: list[Step]) -> list[tuple[str, str, str]]:
    """(what, kind or the tool's name, text)."""
    return [(step.what, step.block.name or step.block.kind, step.text) for step in steps]


def test_neighbours_of_one_kind_are_one_block() -> None:
    assert shown(read({"content": "Pa"}, {"content": ""}, {"content": "ris"})) == [
        ("begins", "text", ""),
        ("goes_on", "text", "Pa"),
        ("goes_on", "text", "ris"),
        ("ends", "text", ""),
    ]


def test_each_kind_is_a_block() -> None:
    steps = read(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "Pa"},
        {"refusal": "no"},
        call(0, id="c0", name="f"),
        call(0, "{}"),
        call(1, '{"x":1}', id="c1", name="g", extra_content={"google": 1}),
    )
    assert [step.block.name or step.block.kind for step in steps if step.what == "begins"] == [
        "thinking", "text", "refusal", "f", "g",
    ]  # fmt: skip
    assert [step.what for step in steps] == ["begins", "goes_on", "ends"] * 5
    last = steps[-1].block
    assert (last.call_id, last.text, last.extra_content) == ("c1", '{"x":1}', {"google": 1})


def test_what_comes_within_a_tool_call_waits_for_its_end() -> None:
    steps = read(
        call(0, '{"a"', id="c0", name="f"),
        call(1, '{"b"', id="c1", name="g"),
        {"content": "Pa"},
        call(0, ":1}"),
        call(1, ":2}"),
        {"content": "ris"},
    )
    assert shown(steps) == [
        ("begins", "f", ""),
        ("goes_on", "f", '{"a"'),
        ("goes_on", "f", ":1}"),
        ("ends", "f", ""),
        ("begins", "g", ""),
        ("goes_on", "g", '{"b"'),
        ("goes_on", "g", ":2}"),
        ("ends", "g", ""),
        ("begins", "text", ""),
        ("goes_on", "text", "Pa"),
        ("goes_on", "text", "ris"),
        ("ends", "text", ""),
    ]


def test_calls_that_never_become_whole_come_at_the_end_in_order() -> None:
    steps = read(call(0, "{", id="c0", name="f"), call(1, id="c1", name="g"), call(2, "[]", id="c2", name="h"))
    assert [step.block.name for step in steps if step.what == "ends"] == ["f", "g", "h"]
    assert [step.block.text for step in steps if step.what == "ends"] == ["{", "", "[]"]


def test_a_call_begins_when_its_name_is_known() -> None:
    steps = read(call(0, "{", id="c0"), call(0, "}", name="f"))
    assert shown(steps) == [("begins", "f", ""), ("goes_on", "f", "{}"), ("ends", "f", "")]


def test_what_follows_a_whole_call_belongs_to_none() -> None:
    steps = read(call(0, "{}", id="c0", name="f"), {"content": "x"}, call(0, " "))
    assert [step.block.text for step in steps if step.what == "ends"] == ["{}", "x"]


def test_the_reader_keeps_how_it_ended_and_the_usage() -> None:
    reader = BlockReader()
    list(reader.read(chunk({"content": "x"})))
    list(reader.read(chunk({}, "length")))
    list(reader.read(chunk({}, usage={"prompt_tokens": 3, "completion_tokens": 2})))
    assert reader.finish == "length"
    assert reader.usage is not None and reader.usage.prompt_tokens == 3


def test_a_whole_answers_blocks() -> None:
    message = ResponseMessage.model_validate(
        {
            "content": "Paris",
            "reasoning_content": "hm",
            "refusal": "no",
            "tool_calls": [{"id": "c0", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"a": 1}}],
        }
    )
    assert [(b.kind, b.call_id, b.name, b.text, b.extra_content) for b in blocks_of(message)] == [
        ("thinking", "", "", "hm", None),
        ("text", "", "", "Paris", None),
        ("refusal", "", "", "no", None),
        ("tool", "c0", "f", "{}", {"a": 1}),
    ]
    assert blocks_of(ResponseMessage(content="")) == []


pieces = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=3)),
    st.builds(lambda text: {"reasoning_content": text}, st.text(max_size=3)),
    st.builds(
        lambda index, text: call(index, text, id=f"c{index}", name=f"f{index}"),
        st.integers(0, 2),
        st.sampled_from(["", "{", "}", '{"a":1}', "1"]),
    ),
)


@given(st.lists(pieces, max_size=12))
def test_blocks_never_overlap_and_texts_arrive_whole(deltas: list[dict[str, Any]]) -> None:
    steps = read(*deltas)
    open_block = None
    result: dict[str, str] = {}
    for step in steps:
        if step.what == "begins":
            assert open_block is None
            open_block = step.block
        assert step.block is open_block
        if step.what == "goes_on":
            kind = step.block.name or step.block.kind
            result[kind] = result.get(kind, "") + step.text
        if step.what == "ends":
            open_block = None
    assert open_block is None
    for kind in ("content", "reasoning_content"):
        said = "".join(delta.get(kind) or "" for delta in deltas)
        assert result.get({"content": "text", "reasoning_content": "thinking"}[kind], "") == said
    calls = {name for name in result if name.startswith("f")}
    sent = {
        f"f{tool['index']}"
        for delta in deltas
        for tool in delta.get("tool_calls", ())
        if "arguments" in tool["function"]
    }
    assert calls == sent


def test_a_signature_ends_a_thought() -> None:
    signed = {"thinking_blocks": [{"type": "thinking", "signature": "c2ln"}]}
    hidden = {"thinking_blocks": [{"type": "redacted_thinking", "data": "RXF6"}]}
    steps = read({"reasoning_content": "hm"}, signed, hidden, signed, {"reasoning_content": "so"}, {"content": "Pa"})
    blocks = [step.block for step in steps if step.what == "ends"]
    assert [(b.kind, b.text, b.signature, b.encrypted) for b in blocks] == [
        ("thinking", "hm", "c2ln", ""),
        ("thinking", "", "", "RXF6"),
        ("thinking", "", "c2ln", ""),
        ("thinking", "so", "", ""),
        ("text", "Pa", "", ""),
    ]


def test_a_whole_answers_thoughts_stand_at_their_places() -> None:
    message = ResponseMessage.model_validate(
        {
            "content": "onetwo",
            "texts": ["one", "two"],
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
            "thinking_blocks": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln", "place": 0},
                {"type": "redacted_thinking", "data": "RXF6", "place": 2},
            ],
        }
    )
    assert [block.text or block.encrypted for block in blocks_of(message)] == ["hm", "one", "RXF6", "two", "{}"]
    assert "texts" not in message.model_dump()
    assert message.model_dump(exclude_none=True)["thinking_blocks"][0] == {
        "type": "thinking", "thinking": "hm", "signature": "c2ln",
    }  # fmt: skip

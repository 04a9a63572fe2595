"""Documents of Anthropic's format: as text, as a file, or as a note where nobody can tell what they would cost."""

import base64
from typing import Any

import pytest

from fusewire.errors import UnsupportedParameterError
from tests.support.claude_code import pdf
from tests.unit.http.messages.test_translate import CALL, PIXEL, USER, asked, messages

MARK = {"type": "ephemeral"}


def encoded(pages: int) -> str:
    return base64.b64encode(pdf(pages)).decode()


def document(source: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


def of_pdf(pages: int) -> dict[str, Any]:
    return {"type": "base64", "media_type": "application/pdf", "data": encoded(pages)}


TEXT = {"type": "text", "media_type": "text/plain", "data": "abc"}
BAD: list[dict[str, Any]] = [
    {"type": "url", "url": "https://example.com/a.pdf"},
    {"type": "file", "file_id": "file_1"},
    of_pdf(601),
    {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(b"%PDF /Encrypt").decode()},
]


def said(*blocks: dict[str, Any]) -> Any:  # noqa: ANN401 - parts, or a text
    result, dropped = messages({"role": "user", "content": list(blocks)})
    assert dropped == ()
    return result[0]["content"]


def test_a_text_is_text() -> None:
    assert said(document(TEXT)) == "abc"
    assert said(document(TEXT, title="T", context="C", citations={"enabled": False})) == "T\nC\n\nabc"
    assert said(document(TEXT, cache_control=MARK)) == [{"type": "text", "text": "abc", "cache_control": MARK}]


def test_content_is_what_is_in_it() -> None:
    assert said(document({"type": "content", "content": "abc"})) == "abc"
    inner = {"type": "content", "content": [{"type": "text", "text": "a"}, PIXEL]}
    parts = said(document(inner, title="T", cache_control=MARK))
    assert [part["type"] for part in parts] == ["text", "text", "image_url"]
    assert (parts[0]["text"], parts[2]["cache_control"]) == ("T", MARK)


def test_a_search_result_is_text() -> None:
    found = {"type": "search_result", "source": "https://example.com", "title": "T", "content": [
        {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}  # fmt: skip
    assert said(found) == "T\nhttps://example.com\n\na\nb"


def test_a_pdf_is_a_file() -> None:
    file = {"file_data": f"data:application/pdf;base64,{encoded(2)}", "filename": "a.pdf"}
    assert said(document(of_pdf(2), title="a.pdf", context="C", cache_control=MARK)) == [
        {"type": "text", "text": "C"},
        {"type": "file", "file": file, "cache_control": MARK},
    ]


@pytest.mark.parametrize("source", BAD, ids=range(len(BAD)))
def test_what_has_no_bound_is_refused_where_the_user_has_just_sent_it(source: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameterError) as raised:
        messages({"role": "user", "content": [document(source)]})
    assert raised.value.param == "messages[0].content"


@pytest.mark.parametrize("source", BAD, ids=range(len(BAD)))
def test_a_conversation_that_holds_it_goes_on(source: dict[str, Any]) -> None:
    block = document(source)
    earlier: list[dict[str, Any]] = [
        {"role": "user", "content": [block]},
        {"role": "assistant", "content": "I can't."},
        USER,
    ]
    shown = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}
    of_tool: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [shown]},
    ]
    for turns in (earlier, of_tool):
        result, dropped = messages(*turns)
        assert dropped == ("messages.document",)
        assert any("can't be shown" in str(message) for message in result)


def test_citations_are_refused() -> None:
    with pytest.raises(Exception, match="citations"):
        asked(messages=[{"role": "user", "content": [document(TEXT, citations={"enabled": True})]}])

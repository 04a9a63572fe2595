"""docs/providers.md against the code: what each provider does with each field, with answers, usage and failures."""

import ast
import io

import pytest
from dotenv import dotenv_values

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.anthropic import response as anthropic_response
from fusewire.ai.providers.bedrock import response as bedrock_response
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings
from fusewire.services import assemble
from scripts.docs.examples import examples, request
from scripts.docs.mapping import ids, model_of, provider
from tests.integration.ai.test_stranger import FILE
from tests.support import documents
from tests.support.documents import PROJECT, Block, blocks, code, prose, table

PROVIDERS = PROJECT / "docs/providers.md"
NOT_SENT = {
    "model", "stream", "stream_options", "store", "modalities", "audio", "moderation", "functions", "function_call",
}  # fmt: skip


def test_the_table_has_a_row_for_every_field_and_a_column_for_every_provider() -> None:
    head, *rows = [row for row in documents.rows(PROVIDERS.read_text(encoding="utf-8")) if len(row) == len(ids()) + 1]
    assert head == ("field", *ids())
    assert [code(row[0])[0] for row in rows] == [example.label for example in examples()]


def test_the_fields_that_are_not_in_the_table_are_named() -> None:
    shown = set(code(prose(PROVIDERS).partition("| field | azure")[0]))
    assert shown >= NOT_SENT
    labels = " ".join(example.label + example.note for example in examples())
    assert {name for name in ChatRequest.model_fields if name not in labels} == NOT_SENT


def test_the_open_questions_are_of_registered_providers() -> None:
    assert {code(row[0])[0] for row in table(PROVIDERS, 2, under="what-is-proven-and-what-isnt")} <= {*ids()}


@pytest.mark.parametrize(
    ("fields", "refused_by"),
    [
        ({"reasoning_effort": "minimal"}, {"aws", "gcp", "anthropic"}),
        ({"reasoning_effort": "none"}, {"aws", "gcp"}),
        ({"temperature": 1.5}, {"aws", "anthropic"}),
        ({"stop": " "}, {"anthropic"}),
    ],
)
def test_values_that_are_refused_where_the_field_is_mapped(fields: dict[str, object], refused_by: set[str]) -> None:
    asked = request({"messages": [{"role": "user", "content": "Hello"}], **fields})
    refusals = {name for name in ids() if provider(name).unsupported(asked, model_of(name)) == tuple(fields)}
    assert refusals == refused_by


# --- answers, usage, failures ---


def test_finish_reasons() -> None:
    rows = table(PROVIDERS, 3, under="answers")
    aws = {theirs: code(row[0])[0] for row in rows for theirs in code(row[1])}
    assert aws == bedrock_response._FINISH
    anthropic = {theirs: code(row[0])[0] for row in rows for theirs in code(row[2].partition(", with")[0])}
    assert anthropic == anthropic_response._FINISHED


AWS_USAGE = {
    "inputTokens": 2,
    "outputTokens": 3,
    "cacheReadInputTokens": 50,
    "cacheWriteInputTokens": 700,
    "cacheDetails": 110,
}
ANTHROPIC_USAGE = {
    "input_tokens": 2,
    "output_tokens": 30,
    "cache_read_input_tokens": 50,
    "cache_creation_input_tokens": 700,
    "ephemeral_1h_input_tokens": 110,
    "thinking_tokens": 13,
}


def test_usage() -> None:
    by_age = [{"ttl": "1h", "inputTokens": 110}, {"ttl": "5m", "inputTokens": 590}]
    aws = bedrock_response.usage_of({"usage": AWS_USAGE | {"cacheDetails": by_age}}, has_content=True)
    anthropic = anthropic_response.usage_of(
        ANTHROPIC_USAGE
        | {"cache_creation": {"ephemeral_1h_input_tokens": 110, "ephemeral_5m_input_tokens": 590}}
        | {"output_tokens_details": {"thinking_tokens": 13}},
        has_content=True,
    )
    for column, read, theirs in ((1, aws, AWS_USAGE), (2, anthropic, ANTHROPIC_USAGE)):
        assert read is not None
        counted: dict[str, int | None] = {}
        for part in (read, read.prompt_tokens_details, read.completion_tokens_details):
            counted |= {} if part is None else part.model_dump()
        for row in table(PROVIDERS, 3, under="usage-and-cost"):
            [ours] = code(row[0])
            if row[column]:
                assert counted[ours] == sum(theirs[each] for each in code(row[column])), ours
            else:
                assert counted.get(ours) is None, ours


def test_failures_are_of_kinds_that_exist() -> None:
    for row in table_of_failures():
        assert code(row[1])[0] in set(FailureKind), row


def table_of_failures() -> list[tuple[str, ...]]:
    text = PROVIDERS.read_text(encoding="utf-8").partition("| the vendor's response | kind |")[2]
    lines = text.partition("\n\n")[0].splitlines()[2:]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    assert len(found) > 10
    return found


# --- settings, and a provider more ---


def settings_blocks() -> list[Block]:
    return [block for block in blocks(PROVIDERS) if block.language == "dotenv"]


def test_the_settings_that_are_shown_are_enough_for_each_provider() -> None:
    configured = []
    for block in settings_blocks():
        given = {k: v for k, v in dotenv_values(stream=io.StringIO(block.text), interpolate=False).items() if v}
        core = assemble(load_settings(given))
        [name] = core.registry.configured
        configured.append(name)
        assert core.prices.price(name, core.registry.get(name).tier_model("sota") or "")
        assert [each for each in ids() if given.keys() & set(provider(each).variables.names())] == [name]
    assert sorted(configured) == sorted(ids())


def test_the_provider_that_is_added_is_the_one_that_a_test_adds() -> None:
    [shown] = [block for block in blocks(PROVIDERS) if block.language == "python"]
    assert shown.text == FILE.strip()
    [line] = [block.text for block in blocks(PROVIDERS) if "_in(" in block.text]
    [entry] = ast.parse(f"{{{line}}}", mode="eval").body.keys  # type: ignore[attr-defined] # a dict's display
    assert ast.literal_eval(entry) == "echo"

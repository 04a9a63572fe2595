"""docs/providers.md against the code: what each provider does with each field, with answers, usage and failures."""

import ast
import io
import re
from collections.abc import Iterator

import pytest
from dotenv import dotenv_values

from fusewire.ai import vocabulary
from fusewire.ai.failures import FailureKind
from fusewire.ai.providers import anthropic_answers, aws_answers
from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import ChatRequest, shapes
from fusewire.config import load_settings
from fusewire.services import assemble
from tests.integration.ai.test_stranger import FILE
from tests.support.documents import PROJECT, Block, blocks, code, prose, table
from tests.unit.docs.mapping import FIELDS, MODELS, body, names, provider, request, verdict

PROVIDERS = PROJECT / "docs/providers.md"
VERDICTS = {"mapped", "refused", "dropped"}
_MODEL = re.compile(r"(anthropic\.)?claude-[\w.-]+|(amazon|meta)\.[\w.:-]+|gemini-[\w.-]+")
_OUR_OWN = {"model", "stream", "stream_options"}
# What a row's own request can't do without, and what is empty in every request.
_STRUCTURE = {
    "type", "text", "url", "id", "index", "function", "arguments", "description", "parameters", "ttl", "json_schema",
    "annotations", "audio", "function_call",
}  # fmt: skip


def mapping_rows() -> Iterator[tuple[list[str], dict[str, str]]]:
    """The fields of each row, and its cells by provider."""
    head, *rows = table_with_head()
    for row in rows:
        fields = [name for name in code(row[0]) if not name.isupper()]
        yield fields, dict(zip(head[1:], row[1:], strict=True))


def table_with_head() -> list[tuple[str, ...]]:
    head = ("field", *MODELS)
    assert f"| {' | '.join(head)} |" in PROVIDERS.read_text(encoding="utf-8")
    return [head, *table(PROVIDERS, len(head), under="requests")]


def cells() -> Iterator[tuple[str, str, str]]:
    for fields, row in mapping_rows():
        for name, cell in row.items():
            for field in fields:
                yield field, name, cell


@pytest.mark.parametrize(("field", "name", "cell"), list(cells()))
def test_a_cell_says_what_the_provider_does(field: str, name: str, cell: str) -> None:
    clauses = re.findall(r"`(mapped|refused|dropped)`(.*?)(?=`(?:mapped|refused|dropped)`|$)", cell)
    assert clauses and cell.startswith("`"), cell
    for place, (said, how) in enumerate(clauses):
        tokens = code(how)
        settings = [token for token in tokens if token.isupper()]
        models = [token for token in tokens if _MODEL.fullmatch(token)]
        assert place == 0 or settings or models, f"{cell}: of what is the second verdict?"
        asked = provider(name, settings[0] if settings else None)
        for model in models or [MODELS[name]]:
            assert verdict(asked, FIELDS[field], model) == said, model
            if said == "mapped":
                sent = set(names(body(asked, FIELDS[field].given, model)))
                told = [token for token in tokens if token not in (*settings, *models)]
                assert set(told) <= sent, f"{set(told) - sent} isn't in {sorted(sent)}"


def test_every_field_of_a_request_has_its_row() -> None:
    rows = [field for fields, _ in mapping_rows() for field in fields]
    assert sorted(rows) == sorted(FIELDS)
    roots = {re.split(r"[.:]", field)[0] for field in rows}
    assert roots - {"cache_control"} == ChatRequest.model_fields.keys() - _OUR_OWN
    told = set(code(prose(PROVIDERS).partition("| field | azure")[0]))
    assert told >= _OUR_OWN


def test_every_field_within_messages_and_tools_has_its_row() -> None:
    rows = {part for fields, _ in mapping_rows() for field in fields for part in re.split(r"[.:] ?", field)}
    elsewhere = {ChatRequest, vocabulary.EmbeddingRequest, vocabulary.StreamOptions}
    asked = {*shapes.Asked.__subclasses__()} - elsewhere
    assert len(asked) > 10
    within = {name for kind in asked for name in kind.model_fields}
    assert within - _STRUCTURE - {"schema_"} <= rows


def test_the_columns_are_the_registered_providers() -> None:
    assert tuple(MODELS) == Registry(load_settings({})).ids()
    open_questions = [code(row[0])[0] for row in table(PROVIDERS, 2, under="what-is-proven-and-what-isnt")]
    assert open_questions == list(MODELS)


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
    refusals = {name for name, model in MODELS.items() if provider(name).unsupported(asked, model) == tuple(fields)}
    assert refusals == refused_by


# --- answers, usage, failures ---


def test_finish_reasons() -> None:
    rows = table(PROVIDERS, 3, under="answers")
    aws = {theirs: code(row[0])[0] for row in rows for theirs in code(row[1])}
    assert aws == aws_answers._FINISH
    anthropic = {theirs: code(row[0])[0] for row in rows for theirs in code(row[2].partition(", with")[0])}
    assert anthropic == anthropic_answers._FINISHED


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
    aws = aws_answers._usage(
        aws_answers._TokenUsage.model_validate(
            AWS_USAGE | {"cacheDetails": [{"ttl": "1h", "inputTokens": 110}, {"ttl": "5m", "inputTokens": 590}]}
        )
    )
    anthropic = anthropic_answers.usage_of(
        anthropic_answers._Usage.model_validate(
            ANTHROPIC_USAGE
            | {"cache_creation": {"ephemeral_1h_input_tokens": 110, "ephemeral_5m_input_tokens": 590}}
            | {"output_tokens_details": {"thinking_tokens": 13}}
        )
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
    text = PROVIDERS.read_text(encoding="utf-8").partition("| what the vendor says | kind |")[2]
    lines = text.partition("\n\n")[0].splitlines()[2:]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    assert len(found) > 10
    return found


# --- settings, and a provider more ---


def settings_blocks() -> list[Block]:
    return [block for block in blocks(PROVIDERS) if block.language == "dotenv"]


def test_the_settings_that_are_shown_are_enough_for_each_provider() -> None:
    shown = settings_blocks()
    assert len(shown) == len(MODELS)
    for name, block in zip(MODELS, shown, strict=True):
        given = {k: v for k, v in dotenv_values(stream=io.StringIO(block.text), interpolate=False).items() if v}
        core = assemble(load_settings(given))
        registry = core.registry
        assert list(registry.configured) == [name], block.place
        assert core.prices.price(name, registry.get(name).tier_model("sota") or "")
        assert [each for each in registry.ids() if given.keys() & variables_of(registry, each)] == [name]


def variables_of(registry: Registry, name: str) -> set[str | None]:
    declared = registry.get(name).variables
    return {declared.endpoint, declared.credential, declared.sota, declared.embedding, *declared.required} - {None}


def test_the_provider_that_is_added_is_the_one_that_a_test_adds() -> None:
    [shown] = [block for block in blocks(PROVIDERS) if block.language == "python"]
    assert shown.text == FILE.strip()
    [line] = [block.text for block in blocks(PROVIDERS) if "_in(" in block.text]
    [entry] = ast.parse(f"{{{line}}}", mode="eval").body.keys  # type: ignore[attr-defined] # a dict's display
    assert ast.literal_eval(entry) == "echo"

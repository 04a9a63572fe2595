"""What a new provider adds to the manuals, to docs/providers.md and to the template; what is there stays."""

from collections.abc import Iterator

import pytest
import yaml

from fusewire.ai.provider import AIProvider, Variables
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES
from scripts.provider_docs import documents
from scripts.provider_docs.documents import made
from scripts.provider_docs.settings import with_blocks, with_parameters, with_rows

ENGLISH = documents._ENGLISH.read_text(encoding="utf-8")
JAPANESE = documents._JAPANESE.read_text(encoding="utf-8")
PROVIDERS = documents._PROVIDERS.read_text(encoding="utf-8")
TEMPLATE = documents._TEMPLATE.read_text(encoding="utf-8")


class NewcomerProvider(OpenAICompatibleProvider):
    id = "newcomer"
    default_base_url = "https://api.newcomer.example/v1"
    variables = Variables(
        endpoint="NEWCOMER_BASE_URL",
        credential="NEWCOMER_API_KEY",
        sota="NEWCOMER_MODEL",
        cost_effective="NEWCOMER_MODEL",
        embedding="NEWCOMER_EMBEDDING_MODEL",
    )
    supported = USUAL


@pytest.fixture
def newcomer(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[AIProvider]]:
    monkeypatch.setitem(_PROVIDER_FACTORIES, "newcomer", NewcomerProvider)
    yield NewcomerProvider


def added(before: str, after: str) -> list[str]:
    known = before.splitlines()
    return [line for line in after.splitlines() if line not in known]


@pytest.mark.usefixtures("newcomer")
def test_the_manuals_get_a_row_for_each_variable() -> None:
    rows = added(ENGLISH, with_rows(ENGLISH, "en"))
    assert rows[:3] == [
        "| `NEWCOMER_BASE_URL` | `https://api.newcomer.example/v1` | URL | Newcomer |",
        "| `NEWCOMER_API_KEY` | — | key | Newcomer |",
        "| `NEWCOMER_MODEL`, `NEWCOMER_EMBEDDING_MODEL` | — | a model's name | its models |",
    ]
    assert "_KEY_EXPIRES_ON`, `NEWCOMER_KEY_EXPIRES_ON` | — | `YYYY-MM-DD`" in rows[3]
    assert "| `NEWCOMER_MODEL`、`NEWCOMER_EMBEDDING_MODEL` | — | モデル名 | モデル |" in with_rows(JAPANESE, "ja")


@pytest.mark.usefixtures("newcomer")
def test_the_document_of_providers_gets_settings_to_copy() -> None:
    assert added(PROVIDERS, with_blocks(PROVIDERS)) == [
        "**Newcomer**, which speaks OpenAI's protocol.",
        "NEWCOMER_API_KEY=a-key",
        "NEWCOMER_MODEL=a-model",
        'AI_PRICE_OVERRIDES={"newcomer/*": {"input_mtok": 1, "output_mtok": 4}}',
    ]


@pytest.mark.usefixtures("newcomer")
def test_the_template_gets_parameters_but_none_for_a_credential() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: getattr(node, "value", None))
    template = yaml.load(with_parameters(TEMPLATE), Loader)  # noqa: S506 - a SafeLoader
    names = {name for name in template["Parameters"] if name.startswith("Newcomer")}
    assert names == {"NewcomerBaseUrl", "NewcomerModel", "NewcomerEmbeddingModel", "NewcomerKeyExpiresOn"}
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["NEWCOMER_BASE_URL"] == "NewcomerBaseUrl"
    assert "NEWCOMER_API_KEY" not in variables


@pytest.mark.usefixtures("newcomer")
def test_the_table_of_requests_gets_a_column() -> None:
    text = made()[documents._PROVIDERS]
    assert "| newcomer |" in text
    assert len(added(PROVIDERS, text)) > 30


@pytest.mark.usefixtures("newcomer")
def test_what_was_added_is_not_added_again() -> None:
    for change, text in (
        (lambda text: with_rows(text, "en"), ENGLISH),
        (lambda text: with_rows(text, "ja"), JAPANESE),
        (with_blocks, PROVIDERS),
        (with_parameters, TEMPLATE),
    ):
        once = change(text)
        assert once != text
        assert change(once) == once

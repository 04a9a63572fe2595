"""Bounds by each vendor's own way of counting, as the ledger sees them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import pytest

from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import ROWS, Row, chat
from tests.integration.ai.observing import Books, caller
from tests.support.pictures import data_url, jpeg, png
from tests.support.wires import Wire

MODELS: Final = {
    "openai": ("OPENAI_SOTA_MODEL", "gpt-5.4"),
    "azure": ("AZURE_SOTA_DEPLOYMENT", "gpt-4o"),
    "anthropic": ("ANTHROPIC_SOTA_MODEL", "claude-opus-5-5"),
    "aws": ("AWS_BEDROCK_SOTA_MODEL", "eu.anthropic.claude-opus-4-6-v1"),
    "gcp": ("GCP_SOTA_MODEL", "gemini-3.8-flash"),
    "vllm": ("VLLM_MODEL", "our-model"),
    "ollama": ("OLLAMA_SOTA_MODEL", "our-model"),
}
CAP = 2048


@pytest.fixture(scope="module", params=[row for row in ROWS if row.name in MODELS], ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    yield request.param


@pytest.fixture
def services(row: Row, wire: Wire, core: CoreFactory) -> Services:
    """A model by its real name, at its listed price, on a budget of one dollar."""
    settings: dict[str, Any] = row.settings(wire)
    del settings["AI_PRICE_OVERRIDES"]
    name, model = MODELS[row.provider]
    return core(**{**settings, name: model, "AI_MONTHLY_BUDGET_USD": "1"})


def picture(data: bytes, kind: str) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": data_url(data, kind)}},
    ]
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": CAP}


@pytest.mark.parametrize(
    ("data", "kind"),
    [(png(1920, 1080, size=1_000_000), "png"), (jpeg(6000, 4000, before=1_000_000), "jpeg")],
    ids=["read", "unreadable"],
)
def test_a_picture_of_a_megabyte_is_served_on_a_budget_of_a_dollar(
    services: Services, wire: Wire, books: Books, data: bytes, kind: str
) -> None:
    response, served = services.router.complete(chat(**picture(data, kind)), caller())
    assert response.choices[0].message.content == "Paris."
    (entry,) = books.entries()
    assert served.booked.cost <= entry["bound"] < Decimal("0.2")
    books.check()


def test_a_dozen_pictures_in_one_call_are_served_too(services: Services, books: Books) -> None:
    fields = picture(png(1024, 1024, size=80_000), "png")
    fields["messages"][0]["content"] += fields["messages"][0]["content"][1:] * 11
    services.router.complete(chat(**fields), caller())
    (entry,) = books.entries()
    assert entry["bound"] < Decimal("0.5")

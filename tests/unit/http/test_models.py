"""`GET /models`: OpenAI's objects, which its SDK reads."""

from decimal import Decimal

from openai.types import Model

from fusewire.ai.catalogue import ListedModel, ListedTier
from fusewire.http.models import model_list
from fusewire.json import dumps


def test_a_list_is_openais_with_prices_beside() -> None:
    listed = model_list(
        [
            ListedTier("sota", ("openai/gpt-4o", "ollama/smol")),
            ListedModel(
                "openai",
                "gpt-4o",
                "chat",
                {"input_mtok": Decimal("2.50"), "output_mtok": Decimal(10)},
                "table",
                {"input_mtok": Decimal("2.50")},
            ),
            ListedModel("ollama", "smol", "chat, embedding", None),
        ]
    )
    body = listed.body()
    assert dumps(body) == (
        '{"object":"list","data":['
        '{"id":"sota","object":"model","created":0,"owned_by":"fusewire","kind":"tier",'
        '"served_by":["openai/gpt-4o","ollama/smol"]},'
        '{"id":"openai/gpt-4o","object":"model","created":0,"owned_by":"openai","kind":"chat",'
        '"price":{"input_mtok":2.5,"output_mtok":10},"price_source":"table","price_in_full":{"input_mtok":2.5}},'
        '{"id":"ollama/smol","object":"model","created":0,"owned_by":"ollama","kind":"chat, embedding","price":null,'
        '"price_source":null,"price_in_full":null}]}'
    )
    assert [Model.model_validate(each).owned_by for each in body["data"]] == ["fusewire", "openai", "ollama"]

"""What the core refuses to start with, and what a start needn't read."""

import subprocess
import sys
from decimal import Decimal

import pytest

from fusewire.budget.price_list import SNAPSHOT
from fusewire.config import ConfigurationError, load_settings
from fusewire.services import assemble

OPENAI = {"OPENAI_API_KEY": "k"}
AZURE = {"AZURE_AI_ENDPOINT": "https://r.openai.azure.com", "AZURE_AI_API_KEY": "k", "AZURE_SOTA_DEPLOYMENT": "ours"}


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            OPENAI | {"AI_PRICE_OVERRIDES": '{"openai/*": {"input_mtok": 2, "output_mtok": 9}}'},
            "AI_PRICE_OVERRIDES: openai/* for openai/gpt-5.4 can't be used, since the known price has "
            "cached_input_mtok, cached_input_mtok above 272000 input tokens, input_mtok above 272000 input tokens, "
            "output_mtok above 272000 input tokens, which it leaves out: say them too, or a factor over the "
            'known price as {"multiply": 1.1}.',
        ),
        (
            OPENAI | {"AI_PRICE_OVERRIDES": '{"azure/gpt-4o": {"multiply": 1.1}}'},
            "AI_PRICE_OVERRIDES: azure/gpt-4o is of no configured provider (they are: openai).",
        ),
        (
            OPENAI | {"AI_PRICE_OVERRIDES": '{"openai/gpt-*": {"multiply": 1.1}}'},
            "AI_PRICE_OVERRIDES: 'openai/gpt-*' is no name: it must be provider/model, or provider/* for all of a "
            "provider's.",
        ),
        (
            OPENAI | {"AI_PRICE_OVERRIDES": '{"openai/m": {"multiply": 1.1}}'},
            "AI_PRICE_OVERRIDES: openai/m can't be used, since it multiplies a price that nobody knows: say "
            "input_mtok and output_mtok.",
        ),
        (
            AZURE | {"AI_PRICE_ALIASES": '{"azure/ours": "gpt-4o", "azure/OURS": "gpt-5"}'},
            "AI_PRICE_ALIASES: 'azure/OURS' names azure/ours a second time.",
        ),
    ],
)
def test_a_price_that_cant_be_used_stops_the_start_in_one_line(variables: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        assemble(load_settings(variables))
    assert str(refused.value) == line


def test_a_factor_over_what_an_alias_says_is_taken() -> None:
    variables = AZURE | {"AI_PRICE_ALIASES": '{"azure/ours": "gpt-5.4"}'}
    core = assemble(load_settings(variables | {"AI_PRICE_OVERRIDES": '{"azure/*": {"multiply": 1.1}}'}))
    assert core.prices.price("azure", "ours").per_mtok()["input_mtok"] == Decimal("2.75")


def test_while_the_keys_are_still_in_secrets_manager_no_provider_is_missed() -> None:
    variables = {"FUSEWIRE_SECRET_ARNS": "arn:aws:secretsmanager:eu-central-1:1:secret:s"}
    assemble(load_settings(variables | {"AI_PRICE_OVERRIDES": '{"openai/gpt-4o": {"multiply": 1.1}}'}))


@pytest.mark.parametrize(
    ("given", "read"), [({}, False), ({"AI_PRICE_OVERRIDES": '{"openai/*": {"multiply": 1}}'}, True)]
)
def test_a_start_reads_the_price_list_for_overrides_only(given: dict[str, str], read: bool) -> None:
    script = f"""
import sys
from fusewire.config import load_settings
from fusewire.services import assemble
assemble(load_settings({OPENAI | given!r}))
assert ("fusewire.budget.price_list" in sys.modules) is {read}
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(SNAPSHOT.parents[2])})  # noqa: S603

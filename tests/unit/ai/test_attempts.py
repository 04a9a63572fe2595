"""The parts of an attempt that need no ledger: how time is divided, and how a usage is read."""

import time
from decimal import Decimal

import pytest

from fusewire.ai.attempts import Attempts, Deadline, Option, token_counts
from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import Usage
from fusewire.budget.ledger import Call, Ledger
from fusewire.budget.pricing import PriceBook, TokenCounts
from fusewire.config import load_settings
from fusewire.db import Database
from fusewire.errors import DeadlineExceededError


def attempts(providers: int, seconds: float, silence: float = 10_000) -> Attempts:
    settings = load_settings({})
    provider = Registry(settings).get("ollama")
    price = PriceBook(overrides={}, aliases={}, local_providers={"ollama"}).price("ollama", "m")
    option = Option(provider, "m", price, Decimal(0), 0)
    ledger = Ledger(Database(None), settings)
    now = time.monotonic()
    until = Deadline(now + seconds), Deadline(now + min(seconds, silence))
    call = Call("r", "chat", "sota")
    return Attempts(ledger, call, [option] * providers, *until, pinned=False, confidential=False)


@pytest.mark.parametrize(("providers", "share"), [(1, 500), (3, 250)])
def test_an_attempt_gets_an_even_share_of_what_is_left(providers: int, share: float) -> None:
    # Before the first reservation nothing is taken from the chain yet, so one attempt more is counted.
    times = attempts(providers, 1000).timeouts()
    assert times.first == pytest.approx(share, abs=5)
    assert times.total == pytest.approx(1000, abs=5)
    assert times.connect == 5


def test_where_silence_is_cut_the_first_content_comes_before_and_the_last_may_come_later() -> None:
    times = attempts(2, 890, silence=285).timeouts()
    assert times.first == pytest.approx(285 / 3, abs=5)
    assert times.total == pytest.approx(890, abs=5)


def test_a_share_shorter_than_the_connect_limit_is_the_connect_limit() -> None:
    times = attempts(1, 4).timeouts()
    assert times.connect == times.first


@pytest.mark.parametrize("seconds", [-5, 0, 0.1])
def test_without_time_nothing_is_even_reserved(seconds: float) -> None:
    # The ledger has no database here: reaching for it would raise LedgerUnavailableError.
    with pytest.raises(DeadlineExceededError) as caught:
        attempts(1, seconds).begin()
    assert (caught.value.status, caught.value.should_retry) == (504, False)


def usage(prompt: int, completion: int, cached: int | None = None, written: int | None = None) -> Usage:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return Usage.model_validate(told)


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (usage(10, 5), TokenCounts(10, 5)),
        (usage(10, 5, 4, 3), TokenCounts(10, 5, 4, 3)),
        (usage(10, 5, 99), TokenCounts(10, 5, 10)),
        (usage(10, 5, 8, 99), TokenCounts(10, 5, 8, 2)),
        (usage(10, 5, -4), TokenCounts(10, 5)),
        (usage(10, 5, None, -1), TokenCounts(10, 5)),
        (usage(0, 0, 5, 5), TokenCounts(0, 0)),
    ],
)
def test_details_beyond_their_total_are_clipped(told: Usage, counts: TokenCounts) -> None:
    assert token_counts(told) == counts

"""What becomes of a key's calls while something happens to the key: two admins, a reset, its end, its month's end."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import openai
import pytest

from tests.conftest import cloned
from tests.integration.budget.books import Clock
from tests.support.gateway import Books, Gateway, eventually
from tests.support.guarded import Admin, ask, guarded
from tests.support.upstream import Upstream, running_upstream

COST = Decimal("0.0014")  # 5 bytes of "Hello" and 3 words, by the prices of `guarded`
WORKERS = 4


@dataclass
class House:
    gateway: Gateway
    admin: Admin
    upstream: Upstream
    clock: Clock
    books: Books

    def key(self, **fields: object) -> tuple[str, openai.OpenAI]:
        """A new key's id, and a client that has its secret."""
        made = self.admin.make(**fields)
        return made["id"], self.gateway.openai(key=made["key"])

    def booked(self, key: str) -> list[tuple[str, str, Decimal, str]]:
        """What became of each of a key's calls, the newest first."""
        rows = self.admin.ask("GET", f"/calls?key={key}")["rows"]
        return [(row["status"], row["cost_basis"], row["cost_usd"], row["day"]) for row in rows]


@pytest.fixture(scope="module")
def running(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("under_way")
    with (
        cloned(postgres, template) as url,
        running_upstream() as upstream,
        guarded(home, upstream, url, LOCAL_CONCURRENCY=str(WORKERS), LOCAL_CALLS_PER_WORKER="1") as (gateway, admin),
    ):
        # After the start, which migrates: what is made under this clock is made in its schema.
        clock = Clock(url, datetime(2026, 11, 15, 12, tzinfo=UTC))
        yield House(gateway, admin, upstream, clock, Books(url))
        clock.close()


@pytest.fixture
def house(running: House) -> Iterator[House]:
    """The vendor goes on when the test is over, whatever became of it, and then nothing is left in the air."""
    running.upstream.requests.clear()
    yield running
    running.upstream.going_on.set()
    running.books.balance()


def test_two_admins_who_change_one_key_at_once_lose_nothing_of_each_other(house: House) -> None:
    key, _ = house.key()
    rounds = 6

    def change(field: str, values: list[object]) -> None:
        for value in values:
            row = house.admin.ask("PATCH", f"/keys/{key}", {field: value, "tags": {"by": field}})
            assert row[field] == value

    with ThreadPoolExecutor(2) as admins:
        done = [
            admins.submit(change, "name", [f"name {number}" for number in range(rounds)]),
            admins.submit(change, "requests_per_minute", list(range(100, 100 + rounds))),
        ]
        for each in done:
            each.result()

    # Each one's own field is as they left it; of the one that both set, the last word stands; the audit has every word.
    now = house.admin.ask("GET", f"/keys/{key}")
    assert (now["name"], now["requests_per_minute"]) == (f"name {rounds - 1}", 100 + rounds - 1)
    entries = [e for e in house.admin.ask("GET", "/audit?action=key.updated")["rows"] if e["after"]["id"] == key]
    assert len(entries) == 2 * rounds
    assert entries[0]["after"]["tags"] == now["tags"]
    assert all(later["before"] == earlier["after"] for later, earlier in pairwise(entries))


def test_of_two_rotations_at_once_the_last_ones_secret_stays(house: House) -> None:
    key, _ = house.key()

    def rotate(_: int) -> str:
        return str(house.admin.ask("POST", f"/keys/{key}/rotate", {"overlap_seconds": 0})["key"])

    with ThreadPoolExecutor(2) as admins:
        secrets = list(admins.map(rotate, range(2)))
    [kept] = house.admin.ask("GET", f"/keys/{key}")["secrets"]
    [lost] = [secret for secret in secrets if not secret.startswith(kept["prefix"])]
    [stays] = [secret for secret in secrets if secret != lost]
    ask(house.gateway.openai(key=stays))
    with pytest.raises(openai.AuthenticationError):
        ask(house.gateway.openai(key=lost))


def test_a_reset_while_32_calls_are_in_the_house(house: House) -> None:
    """What is at the vendor is booked in the window that is closed, what still waits for a worker in the new one."""
    key, client = house.key(monthly_budget_usd=5)
    house.admin.ask("GET", "/budget")  # its function has started before anybody waits for it
    house.upstream.going_on.clear()
    with ThreadPoolExecutor(32) as callers:
        calls = [callers.submit(ask, client) for _ in range(32)]
        eventually(lambda: len(house.upstream.requests) == WORKERS)
        held = house.admin.ask("GET", f"/keys/{key}")["reserved_usd"]
        of_key = house.admin.ask("POST", f"/keys/{key}/reset", {"reason": "raised"})
        of_all = house.admin.ask("POST", "/budget/reset")
        house.upstream.going_on.set()
        for call in calls:
            assert call.result().usage.cost == pytest.approx(float(COST))

    house.admin.ask("GET", "/budget")  # what slots hold is in their window's row then
    for result in (of_key, of_all):
        assert result["closed"]["reserved_usd"] == held > 0
        assert (result["opened"]["spent_usd"], result["opened"]["reserved_usd"]) == (0, 0)
        old, new = (
            house.books.rows(f"SELECT spent, reserved, request_count FROM budget_window WHERE id = {window['id']}")[0]  # noqa: S608
            for window in (result["closed"], result["opened"])
        )
        assert old == (result["closed"]["spent_usd"] + WORKERS * COST, 0, result["closed"]["request_count"] + WORKERS)
        assert new == ((32 - WORKERS) * COST, 0, 32 - WORKERS)
    assert house.admin.ask("GET", f"/keys/{key}")["current_spend_usd"] == (32 - WORKERS) * COST
    assert house.booked(key) == [("settled", "actual", COST, "2026-11-15")] * 32


def test_every_worker_counts_in_the_same_minute(house: House) -> None:
    key, client = house.key(requests_per_minute=3)

    def call(number: int) -> Mapping[str, str] | None:
        """:return: the headers of a refusal, if it was one"""
        streams = number % 2 == 0
        try:
            answer = ask(client, stream=streams)
            if streams:
                assert list(answer)[-1].choices[0].finish_reason == "stop"
        except openai.RateLimitError as error:
            assert error.code == "rate_limit_exceeded"
            return error.response.headers
        return None

    with ThreadPoolExecutor(12) as callers:
        refused = [headers for headers in callers.map(call, range(12)) if headers is not None]
    assert len(refused) == 12 - 3
    for headers in refused:
        assert (headers["retry-after"], headers["x-should-retry"]) == ("60", "true")
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"] == "1m0s"
    house.clock.advance(seconds=60)
    assert call(1) is None
    assert house.admin.ask("GET", f"/keys/{key}")["minute"]["requests_left"] == 2


def test_a_key_that_is_revoked_in_mid_stream_gets_this_answer_and_no_other(house: House) -> None:
    key, client = house.key(monthly_budget_usd=5)
    house.upstream.going_on.clear()
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = [next(stream)]
    house.admin.ask("DELETE", f"/keys/{key}")
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(client)
    assert refused.value.code == "invalid_api_key"
    house.upstream.going_on.set()
    chunks += stream

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris."
    assert chunks[-1].usage.cost == pytest.approx(float(COST))
    assert house.booked(key) == [("settled", "actual", COST, "2026-11-15")]
    shown = house.admin.ask("GET", f"/keys/{key}")
    assert shown["revoked_at"] and (shown["current_spend_usd"], shown["reserved_usd"]) == (COST, 0)


def test_a_call_over_the_months_end_is_of_the_month_in_which_it_was_reserved(house: House) -> None:
    key, client = house.key(monthly_budget_usd=5)
    end = datetime(2026, 12, 1, tzinfo=UTC)
    house.clock.set(end - timedelta(seconds=1))
    house.upstream.going_on.clear()
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    next(stream)
    november = house.admin.ask("GET", f"/keys/{key}")["window"]
    house.clock.set(end + timedelta(seconds=1))
    between = house.admin.ask("GET", f"/keys/{key}")  # its November is over, its December not begun
    house.upstream.going_on.set()
    for chunk in stream:
        last = chunk
    assert last.usage.cost == pytest.approx(float(COST))
    ask(client)

    assert (between["window"], between["reserved_usd"], between["remaining_usd"]) == (None, 0, 5)
    shown = house.admin.ask("GET", f"/keys/{key}")
    assert (shown["current_spend_usd"], shown["reserved_usd"]) == (COST, 0)
    assert shown["window"]["id"] > november["id"]
    assert shown["window"]["resets_at"] == "2027-01-01T00:00:00+00:00"
    assert house.booked(key) == [
        ("settled", "actual", COST, "2026-12-01"),
        ("settled", "actual", COST, "2026-11-30"),
    ]

    def of(month: str) -> list[dict[str, Any]]:
        rows = house.admin.ask("GET", f"/usage?month={month}&group_by=key")["rows"]
        return [row for row in rows if row["key"] == key]

    assert [row["cost_usd"] for month in ("2026-11", "2026-12") for row in of(month)] == [COST, COST]
    resets = [line.get("key_id") for line in house.gateway.events("circuit_breaker.monthly_reset")]
    assert resets == [None, key]

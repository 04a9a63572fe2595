"""Providers' health, noted in the ledger's own round trips and shared by every environment."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import AllCoolingError, HealthUpdate, Reservation
from fusewire.errors import BudgetExceededError
from tests.integration.budget.books import Books, Clock, Events, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger

FAILED = HealthUpdate("openai", "count", "server_error", "HTTP 500", seconds=15, threshold=3, max_seconds=100)
RATE_LIMITED = HealthUpdate("openai", "now", "rate_limited", "HTTP 429", seconds=60)
OK = HealthUpdate("openai", "ok")
PROBE_SECONDS = 30


@pytest.fixture
def ledger(clock: Clock, open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


def openai(ledger: Ledger) -> Reservation:
    return ledger.reserve(a_call(), [candidate("0.01")])


def end(ledger: Ledger, reservation: Reservation, health_update: HealthUpdate) -> None:
    make = settled if health_update.effect == "ok" else released
    ledger.settle(make(reservation, "0.001", health_update=health_update))


def cools_for(ledger: Ledger, clock: Clock) -> float:
    """Seconds until the provider may be called; 0 when it may be now."""
    try:
        ledger.settle(released(openai(ledger)))
    except AllCoolingError as error:
        [cooling] = error.cooling
        return (cooling.until - clock.now).total_seconds()
    return 0


def test_failures_in_a_row_open_a_cooldown_that_doubles_to_a_ceiling(
    ledger: Ledger, clock: Clock, books: Books, events: Events
) -> None:
    for _ in range(2):
        end(ledger, openai(ledger), FAILED)
        assert events.logged == []
    for seconds in (15, 30, 60, 100, 100):
        end(ledger, openai(ledger), FAILED)
        assert cools_for(ledger, clock) == seconds
        clock.advance(seconds=seconds)
    cooldowns = events.of("provider.cooldown")
    assert len(cooldowns) == 5
    assert cooldowns[0]["cooldown_until"] == (clock.now - timedelta(seconds=290)).isoformat()
    assert {(fields["provider"], fields["kind"]) for fields in cooldowns} == {("openai", "server_error")}
    [health] = books.rows("SELECT * FROM provider_health")
    assert (health["consecutive_failures"], health["last_failure_message"]) == (7, "HTTP 500")


def test_a_success_ends_the_row(ledger: Ledger, clock: Clock, books: Books) -> None:
    for _ in range(3):
        for _ in range(2):
            end(ledger, openai(ledger), FAILED)
        end(ledger, openai(ledger), OK)
    assert cools_for(ledger, clock) == 0
    [health] = books.rows("SELECT * FROM provider_health")
    assert (health["consecutive_failures"], health["last_success_at"]) == (0, clock.now)


def test_the_probes_success_ends_the_cooldown_for_all(ledger: Ledger, clock: Clock, books: Books) -> None:
    end(ledger, openai(ledger), RATE_LIMITED)
    clock.advance(seconds=60)
    probe = openai(ledger)
    assert cools_for(ledger, clock) == PROBE_SECONDS

    end(ledger, probe, OK)

    assert cools_for(ledger, clock) == 0
    assert books.rows("SELECT cooldown_until FROM provider_health") == [{"cooldown_until": None}]


def test_retry_after_is_obeyed_from_the_first_failure(ledger: Ledger, clock: Clock, events: Events) -> None:
    end(ledger, openai(ledger), replace(RATE_LIMITED, seconds=7.5))
    assert cools_for(ledger, clock) == 7.5
    clock.advance(seconds=7.499)
    assert cools_for(ledger, clock) > 0
    clock.advance(seconds=0.001)
    assert cools_for(ledger, clock) == 0
    assert len(events.of("provider.cooldown")) == 1


def test_a_note_is_shown_and_counts_for_nothing(ledger: Ledger, clock: Clock, books: Books) -> None:
    for _ in range(10):
        end(ledger, openai(ledger), HealthUpdate("openai", "note", "model_not_found", "no such model"))
    assert cools_for(ledger, clock) == 0
    [health] = books.rows("SELECT consecutive_failures, last_failure_kind, last_failure_at FROM provider_health")
    assert health == {
        "consecutive_failures": 0,
        "last_failure_kind": "model_not_found",
        "last_failure_at": clock.now,
    }


class TestInFlight:
    """What was under way when the cooldown opened is no news."""

    def test_32_failures_at_once_cool_down_as_long_as_three(self, ledger: Ledger, clock: Clock, events: Events) -> None:
        under_way = [openai(ledger) for _ in range(32)]
        for reservation in under_way:
            clock.advance(seconds=0.1)
            end(ledger, reservation, FAILED)
        # 29 times 0.1 s have passed since the third.
        assert cools_for(ledger, clock) == pytest.approx(15 - 2.9)
        assert len(events.of("provider.cooldown")) == 1
        clock.advance(seconds=15)
        end(ledger, openai(ledger), FAILED)
        assert cools_for(ledger, clock) == 30

    def test_a_success_does_not_end_it(self, ledger: Ledger, clock: Clock, books: Books) -> None:
        first, second = openai(ledger), openai(ledger)
        clock.advance(seconds=1)
        end(ledger, first, RATE_LIMITED)

        end(ledger, second, OK)

        assert cools_for(ledger, clock) == 60
        assert books.rows("SELECT last_success_at AS at FROM provider_health") == [{"at": clock.now}]

    def test_another_retry_after_lengthens_it_and_never_shortens_it(self, ledger: Ledger, clock: Clock) -> None:
        under_way = [openai(ledger) for _ in range(6)]
        clock.advance(seconds=1)
        end(ledger, under_way[0], RATE_LIMITED)
        end(ledger, under_way[1], replace(RATE_LIMITED, seconds=5))
        assert cools_for(ledger, clock) == 60
        for reservation in under_way[2:5]:
            end(ledger, reservation, FAILED)
        assert cools_for(ledger, clock) == 60
        end(ledger, under_way[5], replace(RATE_LIMITED, seconds=90))
        assert cools_for(ledger, clock) == 90


class TestPassingOver:
    def test_the_next_candidate_is_reserved_in_the_same_statement(self, ledger: Ledger, books: Books) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        chosen = ledger.reserve(a_call(), [candidate("0.01"), candidate("0.2", "azure")])
        assert chosen.candidate.provider == "azure"
        assert books.only_window().reserved == Decimal("0.2")

    def test_nobody_left(self, ledger: Ledger, clock: Clock, books: Books) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        bedrock = ledger.reserve(a_call(), [candidate("0.01", "aws")])
        ledger.settle(at_bound(bedrock, health_update=HealthUpdate("aws", "now", "overloaded", "HTTP 529", seconds=5)))

        with pytest.raises(AllCoolingError) as caught:
            ledger.reserve(a_call(), [candidate("0.01"), candidate("0.2", "aws")])

        message = [(c.candidate.provider, c.until - clock.now, c.kind) for c in caught.value.cooling]
        assert message == [
            ("openai", timedelta(seconds=60), "rate_limited"),
            ("aws", timedelta(seconds=5), "overloaded"),
        ]
        assert books.only_window().reserved == 0

    def test_a_failover_notes_the_failure_and_reserves_the_next(
        self, ledger: Ledger, clock: Clock, events: Events
    ) -> None:
        first = openai(ledger)
        chain = [candidate("0.02", "azure"), candidate("0.03", "vllm")]

        second = ledger.reserve(a_call(), chain, attempt=2, after=released(first, health_update=RATE_LIMITED))

        assert second.candidate.provider == "azure"
        assert cools_for(ledger, clock) == 60
        [cooldown] = events.of("provider.cooldown")
        assert cooldown["cooldown_until"] == (clock.now + timedelta(seconds=60)).isoformat()

    @pytest.mark.parametrize("failed", ["aws", "vllm"])
    def test_a_failover_to_a_probe_notes_both(self, ledger: Ledger, clock: Clock, failed: str) -> None:
        """In the order of their names, whichever comes first: health rows are locked by name."""
        end(ledger, openai(ledger), RATE_LIMITED)
        first = ledger.reserve(a_call(), [candidate("0.01", failed)])
        clock.advance(seconds=60)

        health_update = replace(RATE_LIMITED, provider=failed, seconds=40)
        probe = ledger.reserve(
            a_call(), [candidate("0.01")], attempt=2, after=released(first, health_update=health_update)
        )

        assert probe.candidate.provider == "openai"
        with pytest.raises(AllCoolingError) as caught:
            ledger.reserve(a_call(), [candidate("0.01"), candidate("0.01", failed)])
        assert [(c.until - clock.now).total_seconds() for c in caught.value.cooling] == [PROBE_SECONDS, 40]


class TestProbe:
    @pytest.mark.usefixtures("patience")
    def test_one_of_32_probes_when_a_cooldown_ends(
        self, clock: Clock, ledger: Ledger, open_ledger: OpenLedger, books: Books
    ) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        clock.advance(seconds=60)
        ledgers = [open_ledger() for _ in range(32)]
        chain = [candidate("0.01"), candidate("0", "ollama")]

        with ThreadPoolExecutor(len(ledgers)) as pool:
            chosen = list(pool.map(lambda each: each.reserve(a_call(), chain).candidate.provider, ledgers))

        assert sorted(chosen) == ["ollama"] * 31 + ["openai"]

    def test_a_probe_that_crashes_is_followed_by_another(self, clock: Clock, ledger: Ledger) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        clock.advance(seconds=60)
        openai(ledger)
        assert cools_for(ledger, clock) == PROBE_SECONDS
        clock.advance(seconds=PROBE_SECONDS)
        assert openai(ledger).candidate.provider == "openai"
        assert cools_for(ledger, clock) == PROBE_SECONDS

    def test_a_probe_that_the_budget_refuses_keeps_nobody_off(self, clock: Clock, ledger: Ledger) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        clock.advance(seconds=60)
        with pytest.raises(BudgetExceededError):
            ledger.reserve(a_call(), [candidate("1.1")])
        assert cools_for(ledger, clock) == 0

    def test_a_probe_that_is_told_to_come_back_sooner_than_its_lease(self, clock: Clock, ledger: Ledger) -> None:
        end(ledger, openai(ledger), RATE_LIMITED)
        clock.advance(seconds=60)
        end(ledger, openai(ledger), replace(RATE_LIMITED, seconds=2))
        assert cools_for(ledger, clock) == 2


def test_most_successes_write_nothing_of_health(ledger: Ledger, clock: Clock, books: Books) -> None:
    end(ledger, openai(ledger), OK)
    before = books.rows("SELECT xmin::text, xmax::text, ctid::text FROM provider_health")
    clock.advance(seconds=4.999)
    end(ledger, openai(ledger), OK)
    assert books.rows("SELECT xmin::text, xmax::text, ctid::text FROM provider_health") == before
    clock.advance(seconds=0.001)
    end(ledger, openai(ledger), OK)
    assert books.rows("SELECT last_success_at AS at FROM provider_health") == [{"at": clock.now}]

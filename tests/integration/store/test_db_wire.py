"""What is said to Postgres for a call: nothing by which RDS Proxy would pin a connection to one client.

That is, by AWS's documentation, a prepared statement that stays, `SET` and its kin, a temporary table, `LISTEN`, a
sequence or an advisory lock in a statement, and statements over 16 KB of text.
"""

import re
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import caller
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy
from tests.support.upstream import Upstream, status

ASKS_FOR_ENCRYPTION = {80877103, 80877104}


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    with postgres_proxy(database_url) as running:
        yield running


def startup(said: bytes) -> tuple[dict[str, str], bytes]:
    """The parameters of a connection's first message, and what follows it."""
    length, code = struct.unpack("!II", said[:8])
    if code in ASKS_FOR_ENCRYPTION:
        return startup(said[length:])
    words = said[8 : length - 1].decode().split("\0")
    return dict(zip(words[:-1:2], words[1::2], strict=True)), said[length:]


def messages(said: bytes) -> Iterator[tuple[str, bytes]]:
    """Each later message: its type, and what it holds."""
    while said:
        kind, length = chr(said[0]), int.from_bytes(said[1:5], "big")
        yield kind, said[5 : length + 1]
        said = said[length + 1 :]


def test_a_call_says_nothing_that_pins(proxy: PostgresProxy, core: CoreFactory, upstream: Upstream) -> None:
    variables = {
        "DATABASE_URL": proxy.url(),
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}',
    }
    services = core(**variables)
    for _ in range(6):  # from the fifth time on psycopg would prepare a statement
        services.router.complete(chat(), caller())
    upstream.script.append(status(500))
    with pytest.raises(Exception, match="openai"):
        services.router.complete(chat(), caller())
    list(services.router.stream(chat(stream=True), caller()).chunks)
    services.ledger.budget()
    assert proxy.connections == 1

    parameters, rest = startup(bytes(proxy.said))
    assert parameters.keys() <= {"user", "database", "application_name", "client_encoding"}
    said = list(messages(rest))
    # Parse, bind, describe, execute, sync: each statement once and for all, in the one that has no name.
    assert {kind for kind, _ in said} == set("PBDES")
    statements = []
    for kind, held in said:
        if kind == "P":
            name, text, _ = held.split(b"\0", 2)
            assert name == b""
            statements.append(text.decode())
    assert all(re.fullmatch(r"SELECT ledger_[a-z]+\(\$1::jsonb\)", text) for text in statements)
    assert len(statements) == 2 * 8 + 1

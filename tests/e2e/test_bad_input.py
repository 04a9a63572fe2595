"""What nobody means well with, over HTTP: a 4xx each, no call to a vendor, nothing on the books."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.conftest import cloned
from tests.e2e.hostile import BODIES, CHAT, HARMLESS, QUERIES
from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, running_upstream

ROUTES = ("chat/completions", "messages", "responses", "embeddings", "admin/keys", "admin/budget/reset")


@pytest.fixture(scope="module")
def vendor() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def books(postgres: str, template: str) -> Iterator[Books]:
    with cloned(postgres, template) as url:
        yield Books(url)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, books: Books, vendor: Upstream) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("bad"), **settings(books, vendor)) as running:
        yield running


def settings(books: Books, vendor: Upstream) -> dict[str, str]:
    return {
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": vendor.url,
        "OPENAI_SOTA_MODEL": "m",
        "OPENAI_COST_EFFECTIVE_MODEL": "m",
        "OPENAI_EMBEDDING_MODEL": "e",
        "AI_PRICE_OVERRIDES": '{"openai/m": {"input_mtok": 0.01, "output_mtok": 0.01}, '
        '"openai/e": {"input_mtok": 0.01, "output_mtok": 0}}',
        "DATABASE_URL": books.url,
    }


def refused(answer: httpx.Response) -> None:
    """A 4xx in OpenAI's or Anthropic's shape, which repeats no more than a little of what was sent."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.headers["x-request-id"]
    assert "x-evil" not in answer.headers
    assert len(answer.content) < 2_000
    error = answer.json()["error"]
    assert error["type"] and error["message"]


def memory_kb(pid: int) -> int:
    """What a process has held at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("route", ROUTES)
def test_hostile_bodies_are_refused_everywhere(gateway: Gateway, vendor: Upstream, books: Books, route: str) -> None:
    with httpx.Client(base_url=gateway.base, timeout=PATIENCE_SECONDS) as client:
        for name, (body, headers) in BODIES.items():
            if (route, name) == ("admin/budget/reset", "nothing"):
                continue  # a reset needs no body
            answer = client.post(f"/{route}", content=body, headers=headers)
            try:
                refused(answer)
            except AssertionError as error:
                raise AssertionError(f"{route}: {name}") from error
            assert answer.elapsed.total_seconds() < 10, name
    assert vendor.requests == []
    assert books.one("SELECT count(*) FROM ledger") == 0


def test_hostile_queries_are_refused(gateway: Gateway) -> None:
    with httpx.Client(base_url=f"{gateway.base}/admin", timeout=PATIENCE_SECONDS) as client:
        for query in QUERIES:
            answer = client.get(f"/{query}")
            try:
                refused(answer)
            except AssertionError as error:
                raise AssertionError(query) from error


def test_what_is_only_odd_is_answered(gateway: Gateway) -> None:
    with httpx.Client(base_url=f"{gateway.base}/admin", timeout=PATIENCE_SECONDS) as client:
        for query in HARMLESS:
            answer = client.get(f"/{query}")
            assert answer.status_code == 200, (query, answer.text)


def test_of_two_classifications_none_counts(gateway: Gateway) -> None:
    """Whichever was taken, the other could be the one that was meant."""
    for words in (("confidential", "public"), ("public", "confidential")):
        headers = [("x-fusewire-classification", word) for word in words]
        refused(httpx.post(f"{gateway.base}/chat/completions", json=CHAT, headers=headers, timeout=PATIENCE_SECONDS))


def test_a_name_that_stands_twice_is_refused(gateway: Gateway) -> None:
    """JSON's readers take the last, a filter before the gateway may read the first."""
    body = b'{"model":"nobody/nothing","messages":[],' + httpx.Request("POST", "http://x", json=CHAT).content[1:]
    answer = httpx.post(f"{gateway.base}/chat/completions", content=body, timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_a_models_name_goes_nowhere_but_where_it_belongs(gateway: Gateway, vendor: Upstream) -> None:
    """Names that a vendor may have: into a header as printable ASCII, into a stream as JSON."""
    vendor.words = ["data: {}\n\n", "\r\nevent: evil\r\n\r\n", "[DONE]", "\x00\u2028"]
    try:
        asked = {"model": "openai/m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        for route, body in (("chat/completions", asked), ("messages", asked | {"max_tokens": 50})):
            answer = httpx.post(f"{gateway.base}/{route}", json=body, timeout=PATIENCE_SECONDS)
            assert answer.status_code == 200
            lines = [line for line in answer.text.split("\n") if line]
            assert all(line.startswith(("data: ", "event: ")) for line in lines)
            assert "event: evil" not in lines
    finally:
        vendor.words = ["Paris."]


def test_names_alike_to_the_eye_are_kept_apart(gateway: Gateway) -> None:
    names = ["caf\u00e9", "cafe\u0301", "\u212b", "\u00c5"]
    with httpx.Client(base_url=f"{gateway.base}/admin", timeout=PATIENCE_SECONDS) as client:
        made = [client.post("/keys", json={"name": name, "scopes": ["complete"]}) for name in names]
        assert [answer.json()["name"] for answer in made] == names
        for bad in ("a\u202eb", "a\u0000b", "a\nb", "\u200b", " ", "\ud800"):
            answer = client.post("/keys", content=b'{"name":%b,"scopes":["complete"]}' % ascii_json(bad), headers={})
            refused(answer)


def ascii_json(text: str) -> bytes:
    return ('"' + "".join(f"\\u{ord(each):04x}" for each in text) + '"').encode()


def test_many_large_bodies_at_once_take_bounded_memory(gateway: Gateway) -> None:
    body = BODIES["a prompt of 10 MB"][0]
    workers = gateway.workers("complete")

    def send(number: int) -> int:
        return httpx.post(f"{gateway.base}/chat/completions", content=body, timeout=PATIENCE_SECONDS).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(8))) == {413}
    assert memory_kb(gateway.process.pid) < 600_000
    for function in ("complete", "embed", "admin_keys", "admin_budget"):
        for pid in gateway.workers(function):
            assert memory_kb(pid) < 400_000  # of the 512 MB that a function has
    assert set(workers) <= set(gateway.workers("complete"))  # none died of it


def test_nothing_failed_inside_and_nothing_was_logged_of_it(gateway: Gateway, books: Books) -> None:
    """The last test of this file: no bug and no outage was reported on the way, and the books balance."""
    lines = {line["event"] for line in gateway.lines()}
    assert not lines & {"function.error", "function.failed", "ledger.unavailable", "gateway.function_crashed"}
    assert "DROP TABLE" not in gateway.log and "x-evil" not in gateway.log
    books.balance()
    with psycopg.connect(books.url) as connection:
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() is not None

"""A vendor's bad day, seen from outside: the second answers, the log says why, and what was spent is booked."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.support import upstream as vendor
from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Reply, Upstream, running_upstream

PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}, "vllm/v": {"input_mtok": 10, "output_mtok": 30}}'


class Setting:
    """One gateway over two vendors, kept for the module; each test clears what the one before left."""

    def __init__(self, gateway: Gateway, first: Upstream, second: Upstream, books: Books) -> None:
        self.gateway, self.first, self.second, self.books = gateway, first, second, books


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with running_upstream() as first, running_upstream() as second:
        variables = {
            "AI_MODE": "hybrid",
            "AI_FALLBACK_CHAIN": "openai,vllm",
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_BASE_URL": first.url,
            "OPENAI_SOTA_MODEL": "m",
            "VLLM_BASE_URL": second.url,
            "VLLM_MODEL": "v",
            "OLLAMA_BASE_URL": "http://127.0.0.1:9",
            "AI_PRICE_OVERRIDES": PRICES,
            "AI_REQUEST_TIMEOUT_SECONDS": "16",
            "LOCAL_CONCURRENCY": "2",
        }
        home = tmp_path_factory.mktemp("failover")
        with running_gateway(home, **variables) as gateway:
            yield Setting(gateway, first, second, Books(_socket_url(home)))


def _socket_url(home: Path) -> str:
    lines = (home / "fusewire" / "postgres" / "postmaster.pid").read_text().splitlines()
    return f"host={lines[4]} port={lines[3]} user=postgres dbname=fusewire"


@pytest.fixture
def setting(running: Setting) -> Setting:
    running.first.script.clear()
    running.second.script.clear()
    running.books.forget_health()
    return running


def ask(setting: Setting, **fields: object) -> httpx.Response:
    body = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5} | fields
    return httpx.post(f"{setting.gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS)


def failed(setting: Setting, answer: httpx.Response) -> list[dict[str, object]]:
    asked = answer.headers["x-request-id"]
    return [line for line in setting.gateway.events("router.provider_failed") if line["request_id"] == asked]


FAILURES: list[tuple[str, Reply, str, str | None]] = [
    ("500", vendor.status(500), "server_error", None),
    ("503", vendor.status(503), "overloaded", None),
    ("429", vendor.status(429, {"retry-after": "7"}), "rate_limited", None),
    ("401", vendor.status(401), "credential_rejected", None),
    ("hangs", vendor.hang(12), "read_timeout", "bound"),
    ("html", vendor.raw(b"<html>Bad gateway</html>"), "malformed_answer", "bound"),
    ("empty", vendor.raw(b""), "malformed_answer", "bound"),
    ("cut", vendor.cut_before_answer, "connection_lost", "bound"),
]


@pytest.mark.parametrize(("name", "reply", "kind", "basis"), FAILURES, ids=[row[0] for row in FAILURES])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_the_second_answers(
    setting: Setting, name: str, reply: Reply, kind: str, basis: str | None, stream: bool
) -> None:
    setting.first.script.append(reply)
    answer = ask(setting, stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-fusewire-provider"] == "vllm"
    assert answer.headers["x-fusewire-attempts"] == "2"
    [line] = failed(setting, answer)
    if stream and kind == "malformed_answer":
        kind = "stream_broken"  # what isn't an event stream is one without an end
    assert (line["provider"], line["kind"], line["level"]) == ("openai", kind, "WARNING")
    asked = answer.headers["x-request-id"]
    eventually(lambda: setting.gateway.budget()["reserved_usd"] == 0)
    first, second = setting.books.rows(
        f"SELECT provider, cost_basis, cost, bound, outcome FROM ledger WHERE request_id = '{asked}' ORDER BY attempt"  # noqa: S608
    )
    assert first[:2] == ("openai", basis)
    assert first[2] == (first[3] if basis == "bound" else None)
    assert second[:3] == ("vllm", "actual", Decimal("0.00001") * 2 + Decimal("0.00003") * 3)
    setting.books.balance()


def test_a_throttled_vendor_is_left_alone_until_it_said(setting: Setting) -> None:
    setting.first.script.append(vendor.status(429, {"retry-after": "120"}))
    ask(setting)
    seen = len(setting.first.requests)
    assert ask(setting).headers["x-fusewire-attempts"] == "1"
    assert len(setting.first.requests) == seen
    body = httpx.get(f"{setting.gateway.base}/admin/providers").json()["providers"]
    [openai] = [provider for provider in body if provider["id"] == "openai"]
    assert openai["status"] == "cooling_down"
    assert openai["cooldown_until"]
    assert openai["last_failure"]["kind"] == "rate_limited"


def test_a_stream_cut_before_its_content_is_answered_by_the_second(setting: Setting) -> None:
    setting.first.script.append(vendor.cut_stream(0))
    answer = ask(setting, stream=True)
    assert answer.headers["x-fusewire-provider"] == "vllm"
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("reply", [vendor.cut_stream(2), vendor.end_stream_early(2), vendor.error_in_stream(2)])
def test_a_stream_cut_after_its_content_ends_with_an_error_and_is_booked(setting: Setting, reply: Reply) -> None:
    setting.first.script.append(reply)
    answer = ask(setting, stream=True)
    assert answer.status_code == 200
    assert answer.headers["x-fusewire-provider"] == "openai"
    assert '"error"' in answer.text.rstrip().rpartition("\n")[2]
    assert "[DONE]" not in answer.text
    eventually(lambda: setting.gateway.budget()["reserved_usd"] == 0)
    asked = answer.headers["x-request-id"]
    [(basis, cost, bound)] = setting.books.rows(
        f"SELECT cost_basis, cost, bound FROM ledger WHERE request_id = '{asked}'"  # noqa: S608
    )
    assert (basis, cost) == ("bound", bound)
    setting.books.balance()


def test_every_vendor_down_is_a_503_that_says_so(setting: Setting) -> None:
    setting.first.script.append(vendor.status(500))
    setting.second.script.append(vendor.status(500))
    answer = ask(setting)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "all_providers_failed"
    assert [result["provider"] for result in error["providers"]] == ["openai", "vllm"]
    assert answer.headers["x-should-retry"] == "true"
    assert setting.gateway.events("router.all_failed")[-1]["level"] == "ERROR"


def test_the_callers_own_mistake_does_not_fall_over(setting: Setting) -> None:
    setting.first.script.append(vendor.status(400, error={"message": "no such tool"}))
    seen = len(setting.second.requests)
    assert ask(setting).status_code == 400
    assert len(setting.second.requests) == seen


def test_a_confidential_request_never_leaves_the_house(setting: Setting) -> None:
    setting.second.script.append(vendor.status(500))
    seen = len(setting.first.requests)
    body = {"model": "sota", "messages": [{"role": "user", "content": "salaries"}]}
    answer = httpx.post(
        f"{setting.gateway.base}/chat/completions",
        json=body,
        headers={"x-fusewire-classification": "confidential"},
        timeout=PATIENCE_SECONDS,
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_eligible_provider"
    assert len(setting.first.requests) == seen

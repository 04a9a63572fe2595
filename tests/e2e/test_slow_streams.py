"""A stream may take as long as it likes in all, and may not be silent for longer than the setting; seconds for minutes.

By default it is 5 minutes of silence and 15 in all. Here a stream flows for three times its limit of silence, as one of
a word a second does that was cut at 60 s once, and another stops in its midst.
"""

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support import upstream as vendor
from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

SILENCE: Final = 3.0
WORDS: Final = 18
FLOWS_FOR: Final = 3 * SILENCE
"""Half a second between two words."""
INPUT, OUTPUT = Decimal(100), Decimal(300)
PRICES: Final = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'
BODY: Final = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 40}


@pytest.fixture
def gateway(tmp_path: Path, upstream: Upstream, database_url: str) -> Iterator[Gateway]:
    variables = {
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "AI_SILENCE_TIMEOUT_SECONDS": f"{SILENCE:g}",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "DATABASE_URL": database_url,
        "LOCAL_CONCURRENCY": "1",
    }
    with running_gateway(tmp_path / "run", **variables) as running:
        # The one worker imports the SDK with its first call; on a busy machine that takes seconds.
        httpx.post(f"{running.base}/chat/completions", json=BODY, timeout=PATIENCE_SECONDS).raise_for_status()
        upstream.billed.clear()
        yield running


def streamed(gateway: Gateway) -> tuple[str, list[dict[str, Any]], list[float]]:
    """The request's id, the events of a stream, and when each came, in seconds since it was asked for."""
    events, times, start = [], [], time.monotonic()
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                events.append(json.loads(line.removeprefix("data: ")))
                times.append(time.monotonic() - start)
        return answer.headers["x-request-id"], events, times


def test_what_flows_is_whole_however_long_it_takes_and_what_stops_is_cut(
    gateway: Gateway, upstream: Upstream, database_url: str
) -> None:
    upstream.words = [f"w{n} " for n in range(WORDS)]
    upstream.delay = FLOWS_FOR
    books = Books(database_url)

    flowed, events, times = streamed(gateway)
    assert times[-1] > FLOWS_FOR - 1, "it came as it was sent"
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == "".join(
        upstream.words
    )
    [(read, written)] = upstream.billed
    cost = (read * INPUT + written * OUTPUT).scaleb(-6)
    assert (written, events[-1]["usage"]["cost"]) == (WORDS, float(cost))

    upstream.script.append(vendor.stall_stream(2, PATIENCE_SECONDS))
    stopped, events, times = streamed(gateway)
    assert "error" in events[-1]
    assert SILENCE - 0.5 < times[-1] < FLOWS_FOR + SILENCE, "it was cut, and not waited for"

    rows = {row[0]: row[1:] for row in books.rows("SELECT request_id, outcome, cost_basis, cost, bound FROM ledger")}
    assert rows[flowed][:3] == ("success", "actual", cost)
    outcome, basis, booked, bound = rows[stopped]
    assert (outcome, basis, booked) == ("stream_broken_late", "bound", bound)
    assert bound > BODY["max_completion_tokens"] * OUTPUT.scaleb(-6)  # type: ignore[operator]
    books.balance()

"""While the budget is HALF_OPEN and the policy says so, the cheaper tier answers, and the answer says so."""

import pytest

from fusewire.ai.router import Answered
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, LogLines, caller, two_clouds
from tests.support.upstream import Upstream, status

Served = tuple[str, str | None]


@pytest.fixture
def services(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> Services:
    """HALF_OPEN from the first cost on, with room for many calls."""
    half_open = {"AI_HALF_OPEN_POLICY": "downgrade", "AI_BUDGET_ALERT_THRESHOLD": "0.000001"}
    cheaper = {"AZURE_COST_EFFECTIVE_DEPLOYMENT": "first-small", "OPENAI_COST_EFFECTIVE_MODEL": "second-small"}
    return core(**two_clouds(upstream, second_upstream, **half_open, **cheaper))


def ask(services: Services, model: str, *, stream: bool) -> Answered:
    request = chat(model=model, stream=stream, max_tokens=100)
    if not stream:
        return services.router.complete(request, caller())[1]
    streaming = services.router.stream(request, caller())
    assert list(streaming.chunks)
    return streaming


def served(answer: Answered) -> Served:
    return answer.model, answer.downgraded_from


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_names_the_tier_that_it_was_downgraded_from(
    services: Services, upstream: Upstream, books: Books, log: LogLines, stream: bool
) -> None:
    assert served(ask(services, "sota", stream=stream)) == ("first", None)
    assert served(ask(services, "sota", stream=stream)) == ("first-small", "sota")
    assert served(ask(services, "cost_effective", stream=stream)) == ("first-small", None)
    assert served(ask(services, "azure/first", stream=stream)) == ("first", None)
    upstream.script.append(status(500))
    answer = ask(services, "sota", stream=stream)
    assert (*served(answer), answer.attempts) == ("second-small", "sota", 2)

    logged = [(line.get("tier"), line.get("downgraded_from")) for line in log.events("router.success")]
    cheap = ("cost_effective", "sota")
    assert logged == [("sota", None), cheap, ("cost_effective", None), (None, None), cheap]
    books.check()

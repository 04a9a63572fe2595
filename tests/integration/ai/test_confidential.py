"""Confidential data goes to local providers or nowhere: the cloud sees no byte, whatever fails."""

import pytest

from fusewire.ai.permissions import Classification
from fusewire.errors import NoEligibleProviderError
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller, two_clouds
from tests.support.upstream import Reply, Upstream, cut_before_answer, hang, raw, status

CONFIDENTIAL = caller(classification="confidential")


def house(local: Upstream, cloud: Upstream, **variables: str) -> dict[str, str]:
    """Two clouds (on one server) before one local provider."""
    return two_clouds(cloud, cloud) | {
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": "azure,openai,ollama",
        "AI_REQUEST_TIMEOUT_SECONDS": "1",
        "OLLAMA_BASE_URL": local.url,
        "OLLAMA_SOTA_MODEL": "small",
        "OLLAMA_EMBEDDING_MODEL": "small-embedding",
        **variables,
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_the_local_provider_answers(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, streamed: bool
) -> None:
    services = core(**house(upstream, second_upstream))
    if streamed:
        streaming = services.router.stream(chat(stream=True), CONFIDENTIAL)
        assert streaming.provider == "ollama"
        assert list(streaming.chunks)
    else:
        assert services.router.complete(chat(), CONFIDENTIAL)[1].provider == "ollama"
    assert services.router.embed(embedding(), CONFIDENTIAL)[1].provider == "ollama"
    assert not second_upstream.paths


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "reply", [status(500), status(429, {"Retry-After": "9"}), status(401), hang(20), raw(b"<html>"), cut_before_answer]
)
def test_with_the_local_provider_down_it_is_refused(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, reply: Reply, streamed: bool
) -> None:
    upstream.script.append(reply)
    services = core(**house(upstream, second_upstream))
    with pytest.raises(NoEligibleProviderError) as caught:
        (services.router.stream if streamed else services.router.complete)(chat(stream=streamed), CONFIDENTIAL)
    assert (caught.value.status, caught.value.code) == (503, "no_eligible_provider")
    assert len(upstream.requests) == 1
    assert not second_upstream.paths
    books.check()


def test_with_nobody_listening_it_is_refused(second_upstream: Upstream, core: CoreFactory, log: LogLines) -> None:
    nobody = Upstream(port=1)
    services = core(**house(nobody, second_upstream))
    for _ in range(6):  # the sixth meets a cooldown
        with pytest.raises(NoEligibleProviderError):
            services.router.complete(chat(), CONFIDENTIAL)
        with pytest.raises(NoEligibleProviderError):
            services.router.embed(embedding(), CONFIDENTIAL)
    assert not second_upstream.paths
    assert {line["code"] for line in log.events("router.all_failed")} == {"no_eligible_provider"}


@pytest.mark.parametrize("model", ["azure/first", "openai/second", "first", "second"])
@pytest.mark.parametrize("mode", ["hybrid", "cloud"])
def test_naming_a_cloud_model_changes_nothing(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, mode: str, model: str
) -> None:
    services = core(**house(upstream, second_upstream, AI_MODE=mode))
    for ask in (services.router.complete, services.router.stream):
        with pytest.raises(NoEligibleProviderError):
            ask(chat(model=model), CONFIDENTIAL)
    assert not second_upstream.paths
    assert not books.entries()


def test_without_a_local_provider_it_is_refused(second_upstream: Upstream, core: CoreFactory, books: Books) -> None:
    services = core(**two_clouds(second_upstream, second_upstream, AI_MODE="hybrid"))
    with pytest.raises(NoEligibleProviderError):
        services.router.complete(chat(), CONFIDENTIAL)
    assert not second_upstream.paths
    assert not books.entries()


@pytest.mark.parametrize("classification", ["public", "internal"])
def test_other_data_may_go_anywhere(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, classification: Classification
) -> None:
    services = core(**house(upstream, second_upstream))
    _, served = services.router.complete(chat(), caller(classification=classification))
    assert served.provider == "azure"

"""An image's address is passed on only to a vendor that fetches it from its own network: never an open door to ours."""

import pytest

from fusewire.ai.registry import Registry
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings

VENDORS_OWN = [
    ("openai", {}),
    ("openai", {"OPENAI_BASE_URL": "https://api.openai.com/v1"}),
    ("azure", {"AZURE_AI_ENDPOINT": "https://our.openai.azure.com"}),
    ("azure", {"AZURE_AI_ENDPOINT": "https://our.openai.azure.com", "AZURE_AI_API_VERSION": "2024-10-21"}),
    ("anthropic", {}),
]
OPERATORS_OWN = [
    ("openai", {"OPENAI_BASE_URL": "http://llm.internal:8000/v1"}),
    ("openai", {"OPENAI_BASE_URL": "https://api.openai.com.example.com"}),
    ("anthropic", {"ANTHROPIC_BASE_URL": "http://llm.internal:8000"}),
    ("ollama", {"OLLAMA_BASE_URL": "http://localhost:11434"}),
    ("vllm", {"VLLM_BASE_URL": "http://llm.internal:8000"}),
]
ADDRESSES = ["https://example.com/a.png", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "//db/x", ""]


def refused(provider: str, settings: dict[str, str], url: str) -> tuple[str, ...]:
    images = [{"type": "image_url", "image_url": {"url": url}}]
    request = ChatRequest.model_validate({"model": "sota", "messages": [{"role": "user", "content": images}]})
    return Registry(load_settings(settings)).get(provider).unsupported(request, "claude-sonnet-4-6")


@pytest.mark.parametrize(("provider", "settings"), VENDORS_OWN)
def test_a_vendors_own_server_gets_the_address(provider: str, settings: dict[str, str]) -> None:
    assert refused(provider, settings, ADDRESSES[0]) == ()


NOT_PUBLIC = [
    *ADDRESSES[1:],
    " ",
    "a.png",
    "ftp://example.com/a.png",
    "gs://bucket/a.png",
    "http://example.com/a.png",
    "https://169.254.169.254/latest/meta-data",
    "https://[fd00:ec2::254]/latest",
    "https://2852039166/",
    "https://0xa9.0xfe.0xa9.0xfe/",
    "https://localhost/a.png",
    "https://intranet/a.png",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://db.local/a.png",
    "https://user:password@example.com/a.png",
    "https://example.com@169.254.169.254/a.png",
    "https://example.com\n.internal/a.png",
    "https://example.com/a b.png",
]


@pytest.mark.parametrize("url", NOT_PUBLIC)
@pytest.mark.parametrize(("provider", "settings"), VENDORS_OWN)
def test_no_vendor_gets_an_address_that_is_not_public(provider: str, settings: dict[str, str], url: str) -> None:
    assert refused(provider, settings, url) == ("messages",)


@pytest.mark.parametrize("url", ADDRESSES)
@pytest.mark.parametrize(("provider", "settings"), [*OPERATORS_OWN, ("aws", {}), ("gcp", {})])
def test_a_server_of_the_operators_never_does(provider: str, settings: dict[str, str], url: str) -> None:
    assert refused(provider, settings, url) == ("messages",)


@pytest.mark.parametrize("url", ["data:image/png;base64,iVBORw0KGgo=", "DATA:image/png;base64,iVBORw0KGgo="])
@pytest.mark.parametrize(("provider", "settings"), [*VENDORS_OWN, *OPERATORS_OWN, ("aws", {}), ("gcp", {})])
def test_an_images_data_is_taken_everywhere(provider: str, settings: dict[str, str], url: str) -> None:
    assert refused(provider, settings, url) == ()


@pytest.mark.parametrize(
    "url", ["data:video/mp4;base64,AAAA", "data:application/pdf;base64,AAAA", "DATA:audio/wav;base64,AAAA", "data:,x"]
)
@pytest.mark.parametrize(("provider", "settings"), [*VENDORS_OWN, *OPERATORS_OWN, ("aws", {}), ("gcp", {})])
def test_what_the_bound_of_an_image_does_not_cover_is_refused(
    provider: str, settings: dict[str, str], url: str
) -> None:
    assert refused(provider, settings, url) == ("messages",)

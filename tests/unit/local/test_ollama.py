"""When the stand-in for Ollama is needed, and what it is called."""

import pytest

from fusewire.config import load_settings
from fusewire.services import assemble
from local import ollama


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"AI_MODE": "local"}, True),
        ({"AI_MODE": "hybrid"}, True),
        ({"AI_MODE": "cloud"}, False),
        ({"AI_MODE": "local", "OLLAMA_BASE_URL": "http://127.0.0.1:11434"}, False),
    ],
)
def test_wanted(variables: dict[str, str], wanted: bool) -> None:
    assert ollama.wanted(variables) is wanted


def test_its_variables_configure_the_provider() -> None:
    variables = {"AI_MODE": "local", "AUTH_MODE": "open", **ollama.as_variables("http://127.0.0.1:1")}
    core = assemble(load_settings(variables))
    assert set(core.registry.configured) == {"ollama"}

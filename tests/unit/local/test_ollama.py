"""What the stand-in for Ollama is called."""

from fusewire.config import load_settings
from fusewire.services import assemble
from local import ollama


def test_its_variables_configure_the_provider() -> None:
    variables = {"AI_MODE": "local", "AUTH_MODE": "open", **ollama.as_variables("http://127.0.0.1:1")}
    core = assemble(load_settings(variables))
    assert set(core.registry.configured) == {"ollama"}

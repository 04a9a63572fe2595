"""What the README tells and no command prints."""

import re
import shlex
from decimal import Decimal

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.registry import Registry
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings
from fusewire.services import assemble
from tests.support.documents import PROJECT, Block, blocks

README = PROJECT / "README.md"
NAMES = {
    "azure": "Azure OpenAI",
    "aws": "Bedrock",
    "gcp": "Vertex",
    "openai": ", OpenAI",
    "anthropic": "Anthropic",
    "ollama": "Ollama",
    "vllm": "vLLM",
}


def bash(containing: str) -> Block:
    return next(block for block in blocks(README) if block.language == "bash" and containing in block.text)


def test_what_the_refused_call_could_have_cost() -> None:
    words = shlex.split(bash("AI_PRICE_OVERRIDES").text)
    run = {"OLLAMA_BASE_URL": "http://localhost:1", "OLLAMA_SOTA_MODEL": "smollm2"}  # as `make run` sets them
    core = assemble(load_settings(run | dict(word.split("=", 1) for word in words if "=" in word)))
    [body] = re.findall(r"-d '(\{.*\})'", bash("seq").text)
    request = ChatRequest.model_validate_json(body)
    assert request.output_cap
    bound = core.prices.price("ollama", "smollm2").bound(chat_input_bound(request), request.output_cap)
    [result] = re.findall(r"could have cost ([\d.]+) USD", README.read_text(encoding="utf-8"))
    assert bound == Decimal(result)


def test_the_providers_of_this_version_are_those_that_are_registered() -> None:
    [result] = [line for line in README.read_text(encoding="utf-8").splitlines() if "has the providers" in line]
    registered = Registry(load_settings({})).ids()
    assert {name for name, shown in NAMES.items() if shown in result} == NAMES.keys() <= set(registered)

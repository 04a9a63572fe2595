"""The clients that `make clients` runs, and the table that it writes into docs/clients.md once they all pass.

`python -m tests.clients.catalogue` writes it. Versions are those of the lock files.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.claude_code import CLAUDE_CODE_SETTINGS
from tests.support.clients import CODEX_SETTINGS, GATEWAY
from tests.support.command_lines import (
    AIDER_SETTINGS,
    CLINE_SETTINGS,
    LLM_SETTINGS,
    OPENCODE_SETTINGS,
    PI_SETTINGS,
)
from tests.support.gateway import PROJECT

DOCUMENT: Final = PROJECT / "docs" / "clients.md"
_BEGIN: Final = "<!-- made by `make clients` -->"
_END: Final = "<!-- end -->"
_NPM_LOCK: Final = PROJECT / "tests" / "clients" / "node" / "package-lock.json"
_REQUIREMENTS: Final = (PROJECT / "requirements", PROJECT / "tests" / "clients" / "requirements")
_ENVIRONMENT: Final = (f"OPENAI_BASE_URL={GATEWAY}", "OPENAI_API_KEY=fw_...")
_ANTHROPIC: Final = (f"ANTHROPIC_BASE_URL={GATEWAY.removesuffix('/api/v1')}", "ANTHROPIC_API_KEY=fw_...")


@dataclass(frozen=True)
class Client:
    """One client program."""

    name: str
    package: str
    lock: str
    """Where its version is pinned: `npm`, or a file of this folder's `requirements/` or the project's."""
    api: str
    test: str
    """The file of its tests in this folder."""
    configuration: tuple[str, ...]
    """Its settings, a line each."""

    @property
    def version(self) -> str:
        if self.lock == "npm":
            packages = json.loads(_NPM_LOCK.read_text(encoding="utf-8"))["packages"]
            return str(packages[f"node_modules/{self.package}"]["version"])
        [lock] = [folder / self.lock for folder in _REQUIREMENTS if (folder / self.lock).exists()]
        pinned = lock.read_text(encoding="utf-8")
        found = re.search(rf"^{re.escape(self.package)}==(\S+)", pinned, re.MULTILINE)
        assert found, self.package
        return found[1]


CLIENTS: Final = (
    Client("Codex CLI", "@openai/codex", "npm", "Responses", "test_codex.py", CODEX_SETTINGS),
    Client("Claude Code", "@anthropic-ai/claude-code", "npm", "Messages", "test_claude_code.py", CLAUDE_CODE_SETTINGS),
    Client(
        "Anthropic's SDK for Python", "anthropic", "dev.txt", "Messages", "test_anthropic.py",
        (*_ANTHROPIC, 'model="sota"'),
    ),
    Client(
        "Anthropic's SDK for TypeScript", "@anthropic-ai/sdk", "npm", "Messages", "test_javascript.py",
        (*_ANTHROPIC, 'model: "sota"'),
    ),
    Client(
        "OpenAI's SDK for Python", "openai", "dev.txt", "Responses, chat completions", "test_openai_python.py",
        (*_ENVIRONMENT, 'model="sota"'),
    ),
    Client(
        "OpenAI's SDK for TypeScript", "openai", "npm", "Responses, chat completions", "test_javascript.py",
        (*_ENVIRONMENT, 'model: "sota"'),
    ),
    Client(
        "OpenAI Agents for Python", "openai-agents", "openai-3.txt", "Responses", "test_openai_agents.py",
        (*_ENVIRONMENT, 'Agent(model="sota")'),
    ),
    Client(
        "Vercel's AI SDK, with OpenAI's provider", "@ai-sdk/openai", "npm", "Responses, chat completions",
        "test_javascript.py",
        (
            f'createOpenAI({{ baseURL: "{GATEWAY}", apiKey }})',
            'openai.responses("sota") or openai.chat("sota")',
            "providerOptions: { openai: { store: false } }",
        ),
    ),
    Client(
        "Vercel's AI SDK, with its provider for compatible APIs", "@ai-sdk/openai-compatible", "npm",
        "chat completions", "test_javascript.py",
        (
            f'createOpenAICompatible({{ name: "fusewire", baseURL: "{GATEWAY}", apiKey }})',
            "supportsStructuredOutputs: true",
            'fusewire("sota")',
        ),
    ),
    Client(
        "LangChain, with OpenAI's models", "langchain-openai", "openai-3.txt", "chat completions, Responses",
        "test_frameworks.py", (*_ENVIRONMENT, 'ChatOpenAI(model="sota"), or with use_responses_api=True'),
    ),
    Client(
        "LangChain's embeddings", "langchain-openai", "openai-3.txt", "embeddings", "test_frameworks.py",
        (*_ENVIRONMENT, 'OpenAIEmbeddings(model="text-embedding-3-small")'),
    ),
    Client(
        "LangChain, with Anthropic's models", "langchain-anthropic", "openai-3.txt", "Messages", "test_frameworks.py",
        (*_ANTHROPIC, 'ChatAnthropic(model="sota")'),
    ),
    Client(
        "LlamaIndex", "llama-index-llms-openai", "openai-2.txt", "chat completions, Responses", "test_frameworks.py",
        (
            """AI_MODEL_ALIASES='{"gpt-4o": "sota"}' at the gateway""",
            "OPENAI_API_KEY=fw_...",
            f'OpenAI(model="gpt-4o", api_base="{GATEWAY}")',
        ),
    ),
    Client(
        "LlamaIndex's embeddings", "llama-index-embeddings-openai", "openai-2.txt", "embeddings",
        "test_frameworks.py",
        ("OPENAI_API_KEY=fw_...", f'OpenAIEmbedding(model_name="text-embedding-3-small", api_base="{GATEWAY}")'),
    ),
    Client(
        "Pydantic AI", "pydantic-ai-slim", "openai-3.txt", "chat completions, Responses, Messages",
        "test_frameworks.py",
        (*_ENVIRONMENT, 'OpenAIChatModel("sota") or OpenAIResponsesModel("sota")'),
    ),
    Client(
        "Instructor", "instructor", "openai-2.txt", "chat completions, Responses", "test_frameworks.py",
        (*_ENVIRONMENT, 'instructor.from_openai(OpenAI()).create(model="sota", ...)'),
    ),
    Client(
        "LiteLLM's client", "litellm", "openai-3.txt", "chat completions, Messages", "test_frameworks.py",
        ("OPENAI_API_KEY=fw_...", f'litellm.completion(model="openai/sota", api_base="{GATEWAY}", ...)'),
    ),
    Client(
        "Strands Agents", "strands-agents", "openai-2.txt", "chat completions", "test_frameworks.py",
        (f'OpenAIModel(client_args={{"base_url": "{GATEWAY}", "api_key": "fw_..."}}, model_id="sota")',),
    ),
    Client("llm", "llm", "openai-3.txt", "chat completions", "test_command_lines.py", LLM_SETTINGS),
    Client("aider", "aider-chat", "aider.txt", "chat completions", "test_command_lines.py", AIDER_SETTINGS),
    Client("opencode", "opencode-ai", "npm", "chat completions", "test_command_lines.py", OPENCODE_SETTINGS),
    Client("Cline CLI", "cline", "npm", "chat completions", "test_command_lines.py", CLINE_SETTINGS),
    Client(
        "pi", "@earendil-works/pi-coding-agent", "npm", "chat completions", "test_command_lines.py", PI_SETTINGS
    ),
)  # fmt: skip


def with_table(text: str) -> str:
    """The document with its table made anew."""
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    rows = [
        f"| {each.name} | `{each.package}` {each.version} | {each.api} | "
        f"{'<br>'.join(f'`{line}`' for line in each.configuration)} | [{each.test}](../tests/clients/{each.test}) |"
        for each in CLIENTS
    ]
    head = ["| client | version | API | configuration | tests |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([f"{before}{_BEGIN}", "", *head, *rows, "", f"{_END}{after}"])


def main(document: Path = DOCUMENT) -> int:
    """Write the table. :return: the exit status"""
    text = document.read_text(encoding="utf-8")
    document.write_text(with_table(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

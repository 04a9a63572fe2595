"""A cold start of `complete` and its first answer import the SDK of the provider that answers, and no other's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusewire.ai import registry
from fusewire.ai.registry import _PROVIDER_FACTORIES
from tests.integration.ai.contract import ROWS, Row
from tests.support.patience import PATIENCE_SECONDS

LAYER = Path(registry.__file__).parents[2]
ROOT = Path(__file__).parents[3]
SDKS = {name: {"openai"} for name in _PROVIDER_FACTORIES} | {
    "gcp": {"openai", "google.auth"},
    "anthropic": {"anthropic"},
    "aws": {"boto3"},
}
"""OpenAI's, but where a vendor has its own."""
WITH_THE_SDK = {"deadline", "http_client", "time_limit", "vertex.tokens"}
WITH_BOTO3 = {f"bedrock.{name}" for name in ("calls", "embeddings", "exchange", "failures", "request", "response")} | {
    "anthropic", "anthropic.models", "anthropic.thinking", "answer_limits", "cache_marks", "call_ids",
    "embedding_batches", "fusewire.ai.image_tokens", "json_schemas", "json_values", "known_refusals",
    "response_failures", "time_limit",
}  # fmt: skip
"""What Claude models on Bedrock need included."""
WITH_THE_PRICE_LIST = {"fusewire.budget.largest_outputs"}
"""Of which our own machines have no need."""
SCRIPT = """
import json, runpy, sys

class Context:
    aws_request_id = "lambda-request-1"
    def get_remaining_time_in_millis(self):
        return 60_000

app, event, sdks = sys.argv[1], json.loads(sys.argv[2]), set(sys.argv[3:])
handler = runpy.run_path(app)["handler"]
before = sorted(sdks & sys.modules.keys())
known = set(sys.modules)
answer = handler(event, Context())
after = sorted(sdks & sys.modules.keys())
ours = sorted(name for name in sys.modules.keys() - known if name.startswith("fusewire"))
print("\\n" + json.dumps([before, answer["statusCode"], json.loads(answer["body"]), after, ours]))
"""


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in SDKS], ids=lambda row: str(row.name))
def test_only_the_sdk_that_answers_is_imported(row: Row, database_url: str) -> None:
    event = json.loads((ROOT / "events/complete.json").read_text())
    event["body"] = json.dumps({"model": "sota", "messages": [{"role": "user", "content": "Hello"}]})
    with row.wire.running() as wire:
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(LAYER),
            "AUTH_MODE": "open",
            "DATABASE_URL": database_url,
            **wire.environment,
            **row.settings(wire),
        }
        output = subprocess.run(  # noqa: S603 - our own interpreter
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                SCRIPT,
                str(ROOT / "functions/complete/app.py"),
                json.dumps(event),
                *sorted(set[str]().union(*SDKS.values())),
            ],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    assert output.stderr == ""
    before, status, answer, after, ours = json.loads(output.stdout.splitlines()[-1])
    assert before == []
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"] == "Paris."
    assert set(after) == SDKS[row.provider]
    allowed = WITH_THE_SDK if row.provider in ("ollama", "vllm") else WITH_THE_SDK | WITH_THE_PRICE_LIST
    allowed |= WITH_BOTO3 if row.provider == "aws" else set()
    # Of our own modules INIT has every one that a call needs, but those that are imported, and put into a snapshot,
    # with the SDK.
    assert {name.removeprefix("fusewire.ai.providers.") for name in ours} <= allowed

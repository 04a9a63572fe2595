"""Strands' agent with a model of OpenAI's or Anthropic's: its loop of tools, streamed, a second turn, an object."""

import os
import sys

import anthropic
import openai
from pydantic import BaseModel
from strands import Agent, tool
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel
from strands.models.openai_responses import OpenAIResponsesModel

from tests.clients.programs.tools import read_file, report, write_file

name, task, api = sys.argv[1:]
OF_OPENAI = {"base_url": os.environ["OPENAI_BASE_URL"], "api_key": "none"}
OF_ANTHROPIC = {"base_url": os.environ["ANTHROPIC_BASE_URL"], "api_key": "none"}
MODELS = {
    "chat": lambda: OpenAIModel(client_args=OF_OPENAI, model_id=name),
    "responses": lambda: OpenAIResponsesModel(client_args=OF_OPENAI, model_id=name),
    "messages": lambda: AnthropicModel(client_args=OF_ANTHROPIC, model_id=name, max_tokens=1024),
}


class City(BaseModel):
    """A city."""

    city: str


def main() -> dict[str, object]:
    pieces = 0

    def count(**event: object) -> None:
        nonlocal pieces
        pieces += "data" in event

    model = MODELS[api]()
    agent = Agent(model, tools=[tool(read_file), tool(write_file)], system_prompt="Be brief.", callback_handler=count)
    first = agent(task)
    used = dict(first.metrics.accumulated_usage)
    second = agent("And now?")
    city = Agent(model, callback_handler=None)("The capital, as an object", structured_output_model=City)
    return {
        "text": str(first).strip().removeprefix("I look.").strip(),
        "pieces": pieces,
        "second": str(second).strip(),
        "object": city.structured_output.model_dump(),
        "tokens": [used["inputTokens"], used["outputTokens"]],
    }


report(main, openai.APIStatusError, anthropic.APIStatusError)

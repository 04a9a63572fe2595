"""Pydantic AI's agent with a model of OpenAI's or Anthropic's: its loop of tools, streamed, twice, and an object."""

import asyncio
import sys
from collections.abc import AsyncIterable

from pydantic import BaseModel
from pydantic_ai import Agent, AgentStreamEvent, ModelHTTPError, PartDeltaEvent, PartStartEvent, RunContext
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

from tests.clients.programs.tools import read_file, report, write_file

name, task, api = sys.argv[1:]
MODELS = {
    "chat": lambda: OpenAIChatModel(name),
    "responses": lambda: OpenAIResponsesModel(name),
    "messages": lambda: AnthropicModel(name),
}


class City(BaseModel):
    """A city."""

    city: str


async def main() -> dict[str, object]:
    pieces = 0

    async def handle(context: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
        nonlocal pieces
        async for event in events:
            pieces += isinstance(event, PartDeltaEvent | PartStartEvent)

    model = MODELS[api]()
    agent = Agent(model, tools=[read_file, write_file], instructions="Be brief.")
    first = await agent.run(task, event_stream_handler=handle)
    second = await agent.run("And now?", message_history=first.all_messages())
    city = await Agent(model, output_type=City).run("The capital, as an object")
    return {
        "text": first.output,
        "pieces": pieces,
        "second": second.output,
        "object": city.output.model_dump(),
        "tokens": [first.usage.input_tokens, first.usage.output_tokens],
    }


report(lambda: asyncio.run(main()), ModelHTTPError)

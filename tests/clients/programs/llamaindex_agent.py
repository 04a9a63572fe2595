"""LlamaIndex's agent with OpenAI's model: its loop of tools, streamed, a second turn, an object."""

import asyncio
import os
import sys

import openai
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel

from tests.clients.programs.tools import read_file, report, write_file

name, task, api = sys.argv[1:]
MODELS = {"chat": OpenAI, "responses": OpenAIResponses}


class City(BaseModel):
    """A city."""

    city: str


async def main() -> dict[str, object]:
    model = MODELS[api](model=name, api_base=os.environ["OPENAI_BASE_URL"])
    agent = FunctionAgent(tools=[read_file, write_file], llm=model, system_prompt="Be brief.")
    memory = ChatMemoryBuffer.from_defaults(llm=model)
    running = agent.run(user_msg=task, memory=memory)
    pieces = 0
    async for event in running.stream_events():
        pieces += isinstance(event, AgentStream) and bool(event.delta)
    first = await running
    second = await agent.run(user_msg="And now?", memory=memory)
    city = await model.astructured_predict(City, PromptTemplate("The capital, as an object"))
    return {"text": str(first), "pieces": pieces, "second": str(second), "object": city.model_dump()}


report(lambda: asyncio.run(main()), openai.APIStatusError)

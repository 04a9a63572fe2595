"""LangChain's agent with a model of OpenAI's or Anthropic's: its loop of tools, streamed, a second turn, an object."""

import sys
from typing import Any

import anthropic
import openai
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.clients.programs.tools import read_file, report, write_file

name, task, api = sys.argv[1:]
MODELS = {
    "chat": lambda: ChatOpenAI(model=name, stream_usage=True),
    "responses": lambda: ChatOpenAI(model=name, use_responses_api=True),
    "messages": lambda: ChatAnthropic(model_name=name),
}


class City(BaseModel):
    """A city."""

    city: str


def main() -> dict[str, object]:
    model = MODELS[api]()
    agent = create_agent(model, [read_file, write_file], system_prompt="Be brief.")
    messages: list[Any] = [{"role": "user", "content": task}]
    pieces = 0
    for mode, part in agent.stream({"messages": messages}, stream_mode=["messages", "values"]):
        if mode == "values":
            messages = part["messages"]
        elif isinstance(part[0], AIMessageChunk) and part[0].text:
            pieces += 1
    first = messages[-1]
    used = [message.usage_metadata for message in messages if getattr(message, "usage_metadata", None)]
    second = agent.invoke({"messages": [*messages, {"role": "user", "content": "And now?"}]})
    city = model.with_structured_output(City).invoke("The capital, as an object")
    return {
        "text": first.text,
        "pieces": pieces,
        "second": second["messages"][-1].text,
        "object": city.model_dump(),
        "tokens": [sum(each["input_tokens"] for each in used), sum(each["output_tokens"] for each in used)],
    }


report(main, openai.APIStatusError, anthropic.APIStatusError)

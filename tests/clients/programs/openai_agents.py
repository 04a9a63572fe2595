"""OpenAI's Agents SDK over Responses: its loop of tools, streamed, and a second turn."""

import asyncio
import json
import sys
from pathlib import Path

import openai
from agents import Agent, Runner, function_tool, set_tracing_disabled


@function_tool
def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()


@function_tool
def write_file(path: str, text: str) -> str:
    """Write a file."""
    Path(path).write_text(text)
    return "written"


async def main() -> dict[str, object]:
    model, task = sys.argv[1:]
    set_tracing_disabled(True)
    agent = Agent(name="fixer", instructions="Be brief.", model=model, tools=[read_file, write_file])
    try:
        first = Runner.run_streamed(agent, task)
        kinds = {event.type async for event in first.stream_events()}
        second = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "And now?"}])
    except openai.APIStatusError as error:
        return {"error": error.message, "status": error.status_code, "code": error.code}
    usage = first.context_wrapper.usage
    return {
        "text": first.final_output,
        "second": second.final_output,
        "events": sorted(kinds),
        "tokens": [usage.input_tokens, usage.output_tokens],
    }


sys.stdout.write(json.dumps(asyncio.run(main())) + "\n")

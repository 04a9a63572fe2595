"""Instructor over OpenAI's SDK: an object whole, in each of its modes, and in pieces; then a file edited by objects."""

import sys
from typing import Literal

import instructor
import openai
from instructor.core.exceptions import InstructorRetryException
from pydantic import BaseModel

from tests.clients.programs.tools import read_file, report, write_file

name, task = sys.argv[1:]
MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON, instructor.Mode.RESPONSES_TOOLS)
MAX_STEPS = 5


class City(BaseModel):
    """A city."""

    city: str


class Step(BaseModel):
    """What to do next."""

    do: Literal["read", "write", "stop"]
    path: str = ""
    text: str = ""


def main() -> dict[str, object]:
    question = [{"role": "user", "content": "The capital, as an object"}]
    cities = []
    for mode in MODES:
        client = instructor.from_openai(openai.OpenAI(), mode=mode)
        cities.append(client.create(model=name, response_model=City, messages=question).city)
    client = instructor.from_openai(openai.OpenAI())
    pieces = list(client.create_partial(model=name, response_model=City, messages=question))
    messages = [{"role": "user", "content": task}]
    steps = []
    for _ in range(MAX_STEPS):
        step = client.create(model=name, response_model=Step, messages=messages)
        steps.append(step.do)
        if step.do == "stop":
            break
        output = read_file(step.path) if step.do == "read" else write_file(step.path, step.text)
        messages += [
            {"role": "assistant", "content": step.model_dump_json()},
            {"role": "user", "content": output},
        ]
    return {"cities": cities, "pieces": len(pieces), "last": pieces[-1].city, "steps": steps}


report(main, openai.APIStatusError, InstructorRetryException)

"""Models' names as their vendors compare them, so that no other spelling of a name passes by its price."""

import re
from typing import Final

_BEDROCK_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):\d*:(?:foundation-model|inference-profile)/([^/]+)"
)
"""Of a model, or of an inference profile of AWS's own, which has the profile's id in it. An application's profile has
an id that says nothing."""


def name_of(provider: str, model: str) -> str:
    """A model's name in small letters, since no vendor tells two models apart by the case.

    Without the publisher where Vertex may leave it out; of a Bedrock ARN, the model's id that is in it.
    """
    name = model.strip().casefold()
    if provider == "gcp":
        return name.removeprefix("google/")
    if provider == "aws" and (arn := _BEDROCK_ARN.fullmatch(name)):
        return arn[2]
    return name


def pair_of(provider_and_model: str) -> str:
    """The same of `provider/model`."""
    provider, slash, model = provider_and_model.partition("/")
    return f"{provider}{slash}{name_of(provider, model)}"


def region_of(model: str) -> str | None:
    """The region in a Bedrock ARN, None for another name."""
    arn = _BEDROCK_ARN.fullmatch(model.strip().casefold())
    return arn[1] if arn else None

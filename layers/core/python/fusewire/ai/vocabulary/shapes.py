"""What all of the vocabulary is made of: requests that are strict, answers that are lenient, and checked values."""

import math
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Asked(BaseModel):
    """Part of a request: unknown fields are errors, and neither `1` nor `"true"` is `True`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Answered(BaseModel):
    """Part of an answer: vendors' extras are left out, and OpenAI's constants are always there."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    _constants: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls._constants = frozenset(name for name, told in cls.model_fields.items() if type(told.default) is str)

    def model_post_init(self, context: object) -> None:
        # Answers are sent without what no vendor said; `object`, `role` and `type` OpenAI's SDK won't go without.
        self.model_fields_set.update(self._constants)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


def _only_finite(value: dict[str, Any]) -> dict[str, Any]:
    # pydantic reads NaN, Infinity and 1e999; nobody after us could write them as JSON again.
    if not _is_finite(value):
        raise ValueError("NaN and Infinity aren't JSON")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_only_finite)]

# A model's name goes into headers, logs and the ledger: none is a place for control characters.
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
TokenCap = Annotated[int, Field(ge=1, le=2**31 - 1)]
TokenCount = Annotated[int, Field(ge=0, le=2**53)]
"""Tokens as a vendor reports them; more than a number in JSON can hold exactly is no count."""

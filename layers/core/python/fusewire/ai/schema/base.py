"""What the schema is made of: requests that are strict, responses that are lenient, and checked values."""

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fusewire.ai.schema.capabilities import Rule, rules_of
from fusewire.json import is_finite

_Item = TypeVar("_Item")

Items = Annotated[list[_Item], Field(fail_fast=True)]
"""A list that is refused for the first of its items that is wrong: one complaint for each of 50,000 takes a second."""


class StrictModel(BaseModel):
    """What a caller sends: unknown fields are errors, and neither `1` nor `"true"` is `True`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class RequestModel(StrictModel):
    """Part of a request to a provider. Each optional field is marked with what it asks of a provider
    (`fusewire.ai.schema.capabilities`)."""

    capability: ClassVar[str | None] = None
    """What a provider must be capable of where a request holds one of these."""
    is_sent: ClassVar[bool] = True
    """Whether a provider is ever sent one; others are read as something else first."""
    capability_rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls.capability_rules = rules_of(cls)


class ResponseModel(BaseModel):
    """Part of a response: vendors' extras are left out, and OpenAI's constants are always there."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, defer_build=True)

    _constants: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls._constants = frozenset(name for name, field in cls.model_fields.items() if type(field.default) is str)

    def model_post_init(self, context: object) -> None:
        # Responses are sent without what no vendor said; `object`, `role` and `type` OpenAI's SDK won't go without.
        self.model_fields_set.update(self._constants)


def _only_finite(value: dict[str, Any]) -> dict[str, Any]:
    # pydantic reads NaN, Infinity and 1e999; nobody after us could write them as JSON again.
    if not is_finite(value):
        raise ValueError("NaN and Infinity aren't JSON")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_only_finite)]

# A model's name goes into headers, logs and the ledger: none is a place for control characters.
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
TokenCap = Annotated[int, Field(ge=1, le=2**31 - 1)]
TokenCount = Annotated[int, Field(ge=0, le=2**53)]
"""Tokens as a vendor reports them; more than a number in JSON can hold exactly is no count."""

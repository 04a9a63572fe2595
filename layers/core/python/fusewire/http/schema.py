"""What the models of the HTTP API's requests and responses share."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from fusewire.ai.schema import base

Money = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "USD, exact"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""ISO 8601 with an offset, as Postgres or `isoformat` writes it."""
AnyObject = dict[str, Any]


class RequestModel(base.StrictModel):
    """Part of a request, as strict as `ChatRequest`: unknown fields are errors, and `1` isn't `True`."""


class ResponseModel(BaseModel):
    """Part of an answer: every field is there, and what a newer database says beyond them is left out."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        defer_build=True,  # a cold start pays for the models that it uses
        json_schema_serialization_defaults_required=True,
    )

    def body(self) -> dict[str, Any]:
        """The fields in their order, under the names that callers see, as `fusewire.json` writes them."""
        return self.model_dump(by_alias=True)

"""The prices that administrators set, as an environment knows them (`store/functions/prices.sql`).

An environment begins with none. Its first reservation is refused as stale where there are some, and brings them: a cold
start asks for nothing, and a call pays for one more round trip when prices have changed, and only then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fusewire.budget.wire import PricesArgument, PriceTableRow


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The prices in force at one version."""

    stamp: PricesArgument
    """Version, and until when they hold: what a reservation names."""
    entries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """By `provider/model` or `provider/*`, in lower case: what `PriceOverride` reads."""

    @classmethod
    def read(cls, row: PriceTableRow) -> "PriceTable":
        """From `price_table`."""
        entries = {f"{price['provider']}/{price['model']}".lower(): price["entry"] for price in row["prices"]}
        return cls({"version": row["version"], "until": row["until"]}, entries)


NO_PRICES: Final = PriceTable({"version": 0, "until": None})
"""What an environment knows before its first reservation."""


class StalePricesError(Exception):
    """Other prices are in force than those that the bounds were computed with: nothing was reserved."""

    def __init__(self, table: PriceTable) -> None:
        super().__init__(f"prices of version {table.stamp['version']} are in force")
        self.table = table

"""`python -m scripts.costs`: write section 9 of the operations manuals' tables of costs from infra/costs.yaml."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Final

import yaml

PROJECT: Final = Path(__file__).resolve().parents[1]
SHAPES: Final = ("little", "smallest", "recommended")
_MANUALS: Final = {"en": PROJECT / "docs/operations.md", "ja": PROJECT / "docs/operations.ja.md"}
_HEAD: Final = {
    "en": ("item", "created by", "price", "little", "smallest", "recommended"),
    "ja": ("項目", "作るもの", "単価", "低コスト構成", "最小構成", "推奨構成"),
}
_SUM: Final = {"en": "sum", "ja": "合計"}
_CALLS_HEAD: Final = {
    "en": (
        "an answer takes",
        "calls a month",
        "Lambda, {} GB",
        "Lambda, {} GB",
        "Managed Instances: processes",
        "threads",
    ),
    "ja": ("応答の時間", "月の呼び出し", "Lambda、{} GB", "Lambda、{} GB", "Managed Instances: プロセス", "スレッド"),
}
_SECONDS: Final = {"en": "{} s", "ja": "{} 秒"}


@dataclass(frozen=True)
class Costs:
    """infra/costs.yaml."""

    data: Mapping[str, Any]

    @cached_property
    def prices(self) -> dict[str, Decimal]:
        return {name: Decimal(each["usd"]) for name, each in self.data["prices"].items()}

    def factors(self, names: Sequence[object]) -> list[Decimal]:
        """What a product is of: prices and periods by name, numbers as they are."""
        periods = {name: Decimal(self.data[name]) for name in ("hours", "seconds")}
        known = self.prices | periods
        return [known[name] if isinstance(name, str) and name in known else Decimal(str(name)) for name in names]

    def at_rest(self, shape: str) -> Decimal:
        """USD a month of a shape, each item rounded to the cent as its row is."""
        return sum((_cents(self.factors(item[shape])) for item in self.data["items"] if shape in item), Decimal(0))

    def on_lambda(self, calls: int, seconds: int, gigabytes: Decimal) -> Decimal:
        """USD a month of the function's own price: its memory for as long as it waits for the vendor, and its calls."""
        price = self.prices
        return Decimal(calls) * (seconds * gigabytes * price["lambda_gb_second"] + price["lambda_request"])

    def on_managed_instances(self, calls: int, seconds: int, each_has: str) -> Decimal:
        """The same on Lambda Managed Instances: as many as the calls under way need, and no fewer than AWS starts.

        :param each_has: what a call has for itself: `processes` or `threads`
        """
        managed, price = self.data["calls"]["managed"], self.prices
        under_way = Decimal(calls * seconds) / Decimal(self.data["seconds"])
        room = Decimal(managed["calls_at_once"][each_has]) * (1 - Decimal(managed["kept_free"]))
        instances: Decimal = max(Decimal(managed["instances"]), (under_way / room).to_integral_value(ROUND_CEILING))
        hourly = price[managed["instance"]] * price["managed_fee"]
        return instances * hourly * Decimal(self.data["hours"]) + calls * price["lambda_request"]

    def cheaper_from(self, seconds: int, gigabytes: Decimal) -> int:
        """The calls a month from which the instances that AWS starts at least cost less than Lambda."""
        managed, price = self.data["calls"]["managed"], self.prices
        fixed = managed["instances"] * price[managed["instance"]] * price["managed_fee"] * Decimal(self.data["hours"])
        return int((fixed / (seconds * gigabytes * price["lambda_gb_second"])).to_integral_value(ROUND_CEILING))


def load_costs() -> Costs:
    return Costs(yaml.safe_load((PROJECT / "infra/costs.yaml").read_text(encoding="utf-8")))


def idle_table(costs: Costs, language: str) -> str:
    """What each item costs at rest, and the sums."""
    rows: list[tuple[str, ...]] = [_HEAD[language], ("---",) * 6]
    usd = {name: each["usd"] for name, each in costs.data["prices"].items()}
    for item in costs.data["items"]:
        price = item[f"price_{language}"]
        for name, value in usd.items():
            price = price.replace(f"{{{name}}}", value)
        made_by = ", ".join(f"`{name}`" for name in item["made_by"])
        rows.append((item[language], made_by, price, *(_product(costs, item, shape) for shape in SHAPES)))
    rows.append((f"**{_SUM[language]}**", "", "", *(f"**{costs.at_rest(shape)}**" for shape in SHAPES)))
    return _table(rows)


def calls_table(costs: Costs, language: str) -> str:
    """What calls cost, by how long a vendor's answers take."""
    wanted = costs.data["calls"]
    small, large = (Decimal(each) for each in wanted["memory_gb"])
    first, second, *head = (*_CALLS_HEAD[language],)
    rows = [(first, second, head[0].format(small), head[1].format(large), *head[2:]), ("---", *["---:"] * 5)]
    for seconds in wanted["answer_seconds"]:
        for calls in wanted["calls_a_month"]:
            sums = [costs.on_lambda(calls, seconds, small), costs.on_lambda(calls, seconds, large)]
            sums += [costs.on_managed_instances(calls, seconds, each) for each in ("processes", "threads")]
            rows.append((_SECONDS[language].format(seconds), f"{calls:,}", *(f"{each:,.2f}" for each in sums)))
    return _table(rows)


def sources(costs: Costs) -> str:
    """Where each price was read, by the names in infra/costs.yaml."""
    by_source: dict[str, list[str]] = {}
    for name, each in costs.data["prices"].items():
        by_source.setdefault(each["source"], []).append(f"`{name}`")
    known = costs.data["sources"]
    return "; ".join(
        f"{', '.join(names)}: [{known[source]['title']}]({known[source]['url']})"
        for source, names in by_source.items()
        if source in known
    )


def written(text: str, costs: Costs, language: str) -> str:
    """A manual with what is made from the data between its marks.

    :raises ValueError: where a mark is missing
    """
    for name, made in (
        ("idle", idle_table(costs, language)),
        ("calls", calls_table(costs, language)),
        ("sources", sources(costs)),
    ):
        begin, end = f"<!-- costs: {name} -->\n\n", "\n\n<!-- end of costs -->"
        before, mark, rest = text.partition(begin)
        if not mark or end not in rest:
            raise ValueError(f"the manual has no mark {begin.strip()}")
        text = before + mark + made + end + rest.partition(end)[2]
    return text


def _product(costs: Costs, item: Mapping[str, Any], shape: str) -> str:
    if shape not in item:
        return ""
    factors = costs.factors(item[shape])
    return f"{' x '.join(map(str, factors))} = {_cents(factors)}"


def _cents(factors: Sequence[Decimal]) -> Decimal:
    return round(prod(factors, start=Decimal(1)), 2)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_line(row) for row in rows)


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def manuals() -> Iterator[tuple[Path, str]]:
    """Each manual's file, and what it should hold."""
    costs = load_costs()
    for language, file in _MANUALS.items():
        yield file, written(file.read_text(encoding="utf-8"), costs, language)


if __name__ == "__main__":
    for path, content in manuals():
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"written: {path.name}\n")

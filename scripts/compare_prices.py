"""Hold the price list against LiteLLM's, a second opinion, and write what differs, with the reason, as a table.

    python -m scripts.compare_prices                downloads the wheel that benchmarks/requirements pins, and writes
                                                    docs/prices-compared.md
    python -m scripts.compare_prices FILE           takes LiteLLM's wheel, or its JSON, from a file

A difference that no rule here explains stops it: a person has to find out which of the two is right. Where that can't
be found out and ours is the cheaper, the model's price is withdrawn (`scripts/price_rows.py`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from fusewire.budget.price import Rate
from fusewire.budget.price_list import SNAPSHOT, listed

ROOT: Final = Path(__file__).parents[1]
TABLE: Final = ROOT / "docs/prices-compared.md"
PINNED: Final = ROOT / "benchmarks/requirements/litellm.txt"
IN_WHEEL: Final = "litellm/model_prices_and_context_window_backup.json"

FIELDS: Final = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
"""Our kinds of token, and LiteLLM's fields, which are USD per token."""

_TEXT_MODES: Final = ("chat", "responses", "embedding")
_GEOGRAPHIES: Final = {
    "us": "us-east-1", "eu": "eu-central-1", "apac": "ap-southeast-2", "jp": "ap-northeast-1", "au": "ap-southeast-2",
    "ca": "ca-central-1", "in": "ap-south-1", "us-gov": "us-gov-west-1", "global": "us-east-1",
}  # fmt: skip
"""A region for each of Bedrock's geographies: that whose price LiteLLM gives a geography's profile."""
_REGION: Final = re.compile(r"[a-z]{2}(-gov)?-[a-z]+-\d")
_MTOK: Final = 10**6


class UnexplainedError(Exception):
    """The two lists differ, and nobody has found out why."""


class Target(NamedTuple):
    """A model as we ask for it."""

    provider: str
    model: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """Why prices differ, for the models and kinds that it is about."""

    provider: str
    models: str
    """A regular expression."""
    kinds: str
    why: str


_NO_BETA: Final = "beyond 200,000 tokens it takes a beta header that isn't sent; without it the vendor refuses the call"
_REGIONAL: Final = (
    "an id without a prefix is called in one region, which costs a tenth more; LiteLLM has the global price"
)
_DEARER: Final = "ours is the dearer: without a rate of its own, cached input costs what input costs"

RULES: Final = (
    Rule("aws", r"(anthropic\.)?claude-sonnet-4-5-2025.*", r"(?!.* above ).*", _REGIONAL),
    Rule("aws", r".*claude-sonnet-4-(5-)?2025.*", r".* above 200000", _NO_BETA),
    Rule("anthropic", r"claude-sonnet-4-5.*", r".* above 200000", "ours has the tier too, and LiteLLM dropped it"),
    Rule("aws", r"(anthropic\.claude|openai\.gpt-6).*", r"(input|output|cach).*", _REGIONAL),
    Rule("aws", r".*claude-3-opus.*", r"cach.*", "Bedrock doesn't cache for this model"),
    Rule("azure", r"text-embedding.*|gpt-4-turbo.*", r".*", "ours is the Global deployment's, LiteLLM's a region's"),
    Rule("azure", r"gpt-5\.[45]-pro.*", r"cached_input.*", _DEARER),
    Rule("openai", r"ft:.*", r"cach.*", _DEARER),
    Rule("gcp", r"gemini-2\.5-pro-preview-tts", r"cached_input", _DEARER),
    Rule("gcp", r"gemini-.*", r"cache_write.*", "Google bills no writes to its cache by the token"),
    Rule("gcp", r"claude-3-5-haiku.*", r"input|output", "LiteLLM has the launch price; Anthropic lowered it"),
    Rule("gcp", r"claude-3-.*", r"cach.*", "LiteLLM has no price of it"),
)
"""The first that fits counts."""


class Difference(NamedTuple):
    """One price that the two lists don't agree on, in USD per million tokens; None where a list has none."""

    target: Target
    kind: str
    ours: Decimal | None
    theirs: Decimal | None

    def why(self) -> str:
        """:raises UnexplainedError: where no rule fits"""
        for rule in RULES:
            if (
                rule.provider == self.target.provider
                and re.fullmatch(rule.models, self.target.model)
                and re.fullmatch(rule.kinds, self.kind)
            ):
                return rule.why
        raise UnexplainedError(f"{'/'.join(filter(None, self.target))} {self.kind}: {self.ours}, LiteLLM {self.theirs}")


def target_of(name: str, entry: Mapping[str, Any]) -> Target | None:
    """How we ask for a model of LiteLLM's list; None for one that is no text model of our providers."""
    if entry.get("mode") not in _TEXT_MODES:
        return None
    parts = name.split("/")
    match entry.get("litellm_provider"), parts:
        case "openai" | "anthropic" as provider, [model]:
            return Target(provider, model, None)
        case "azure" | "azure_ai", [_, model]:
            return Target("azure", model, None)
        case (("vertex_ai-language-models" | "vertex_ai-anthropic_models" | "vertex_ai-embedding-models"), _):
            return Target("gcp", parts[-1], "global")
        case (("bedrock" | "bedrock_converse"), [model]):
            prefix = model.split(".", 1)[0]
            return Target("aws", model, _GEOGRAPHIES.get(prefix, "us-east-1"))
        case (("bedrock" | "bedrock_converse"), ["bedrock", region, model]) if _REGION.fullmatch(region):
            return Target("aws", model, region)
    return None


def ours_of(target: Target, on: date) -> dict[str, Decimal] | None:
    """Our prices by kind, and by `kind above N` for the long-context tiers; None for a model without a price."""
    price = listed(*target)
    if price is None:
        return None
    rates: dict[str, Rate] = price.kinds(at=datetime.combine(on, time(), UTC))
    return dict(_flat(rates))


def _flat(rates: Mapping[str, Rate]) -> Iterator[tuple[str, Decimal]]:
    for kind, rate in rates.items():
        yield kind, rate.base
        for start, dearer in rate.tiers:
            yield f"{kind} above {start}", dearer


def theirs_of(entry: Mapping[str, Any]) -> dict[str, Decimal]:
    """LiteLLM's, in the same form."""
    found = {}
    for kind, field in FIELDS.items():
        if entry.get(field) is not None:
            found[kind] = _MTOK * Decimal(entry[field])
        for name, value in entry.items():
            if (above := re.fullmatch(rf"{field}_above_(\d+)k_tokens", name)) and value is not None:
                found[f"{kind} above {above[1]}000"] = _MTOK * Decimal(value)
    return found


def differences(
    entries: Mapping[str, Mapping[str, Any]], on: date
) -> tuple[list[Difference], dict[str, list[str]], int]:
    """What differs; by provider, the models that only LiteLLM prices; and how many prices agree."""
    found: list[Difference] = []
    alone: dict[str, list[str]] = {}
    same = 0
    for name, entry in entries.items():
        if (target := target_of(name, entry)) is None or not (theirs := theirs_of(entry)):
            continue
        if (ours := ours_of(target, on)) is None:
            alone.setdefault(target.provider, []).append(target.model)
            continue
        for kind in sorted({*ours, *theirs} - _following(ours, theirs)):
            if ours.get(kind) == theirs.get(kind):
                same += 1
            else:
                found.append(Difference(target, kind, ours.get(kind), theirs.get(kind)))
    return found, {provider: sorted(set(names)) for provider, names in alone.items()}, same


def _following(ours: Mapping[str, Decimal], theirs: Mapping[str, Decimal]) -> set[str]:
    """Kinds that one list alone has, and that say nothing: an embedding's output, and hour-writes that follow input."""
    nothing = {
        kind for kind in ("output", "cached_input", "cache_write") if not ours.get(kind) and not theirs.get(kind)
    }
    return nothing | {kind for kind in ours if kind.startswith("cache_write_1h") and kind not in theirs}


def render(entries: Mapping[str, Mapping[str, Any]], version: str, on: date) -> str:
    """The page.

    :raises UnexplainedError: for a difference that no rule explains
    """
    found, alone, same = differences(entries, on)
    source = json.loads(SNAPSHOT.read_bytes())
    lines = [
        "# Prices compared",
        "",
        f"[prices.json](../layers/core/python/fusewire/budget/prices.json) (genai-prices {source['version']} and "
        f"[scripts/price_rows.py](../scripts/price_rows.py)) against LiteLLM {version}'s "
        f"`model_prices_and_context_window.json`, as of {on}. LiteLLM's list is a second opinion; it is a source only "
        "where a row says so. `make prices-compared` writes this page anew, and stops at a difference that it can't "
        "explain.",
        "",
        f"{same:,} prices agree. These differ, in USD per million tokens:",
        "",
        "| model | kind | fusewire | LiteLLM | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in sorted(found, key=lambda one: (*map(str, one.target), one.kind)):
        place = f" ({each.target.place})" if each.target.place else ""
        name = f"`{each.target.provider}/{each.target.model}`{place}"
        lines.append(f"| {name} | {each.kind} | {_shown(each.ours)} | {_shown(each.theirs)} | {each.why()} |")
    lines += [
        "",
        "## Without a price here",
        "",
        "LiteLLM prices these; no source of ours has their price for this host and place. They are refused with the "
        "line to set, until the operator prices them.",
        "",
    ]
    for provider, names in sorted(alone.items()):
        lines.append(f"- **{provider}** ({len(names)}): {', '.join(f'`{name}`' for name in names)}")
    return "\n".join([*lines, ""])


def _shown(price: Decimal | None) -> str:
    return "none" if price is None else format(price.normalize(), "f")


def _entries(file: Path) -> dict[str, dict[str, Any]]:
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            text = wheel.read(IN_WHEEL).decode()
    else:
        text = file.read_text("utf-8")
    result: dict[str, dict[str, Any]] = json.loads(text, parse_float=Decimal)
    return result


def pinned_version() -> str:
    """LiteLLM's version that the benchmarks measure."""
    found = re.search(r"^litellm==(\S+)", PINNED.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"{PINNED} pins no litellm")
    return found[1]


def main(arguments: Sequence[str] | None = None, *, table: Path = TABLE) -> int:
    parser = argparse.ArgumentParser(description="Compare the price list with LiteLLM's.")
    parser.add_argument("file", nargs="?", type=Path, help="LiteLLM's wheel, or its JSON; default: the pinned wheel")
    parser.add_argument("--as-of", type=date.fromisoformat, default=datetime.now(UTC).date())
    given = parser.parse_args(arguments)
    version = pinned_version()
    with tempfile.TemporaryDirectory() as folder:
        file: Path = given.file or _downloaded(version, Path(folder))
        text = render(_entries(file), version, given.as_of)
    table.write_text(text, "utf-8")
    sys.stdout.write(f"Wrote {table}.\n")
    return 0


def _downloaded(version: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "-d",
        str(folder),
        f"litellm=={version}",
    ]
    subprocess.run(command, check=True)  # noqa: S603
    [wheel] = folder.glob("litellm-*.whl")
    return wheel


if __name__ == "__main__":
    raise SystemExit(main())

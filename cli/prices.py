"""`fusewire prices`: what models cost by the administrators' table, and what a source proposes."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final

import simplejson
from typer import Argument, Option, Typer

from cli import price_source, show
from cli.api import Api, ApiError, path_of
from cli.ask import confirm
from cli.commands import Json, Limit, Yes, given

SOURCE: Final = "FUSEWIRE_PRICE_SOURCE"

_LISTED: Final = ("id", "provider", "model", "price", "status", "effective_from", "source", "created_by")
_DIFF: Final = ("id", "provider", "model", "kind", "now", "staged", "source")
_DERIVED: Final = ("cache_write_mtok", "cache_write_1h_mtok")
"""What the gateway adds to a Claude's entry by itself."""

app = Typer()

Id = Annotated[str, Argument(help="The price's id.")]
Starts = Annotated[str | None, Option("--from", metavar="TIME", help="With its offset; by default now.")]


@app.command(name="list")
def list_prices(
    status: Annotated[str | None, Option(help="staged, scheduled, in_force, superseded or removed.")] = None,
    provider: Annotated[str | None, Option()] = None,
    model: Annotated[str | None, Option()] = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """Prices that administrators set, the newest first."""
    rows = list(Api().rows("/admin/prices", limit, status=status, provider=provider, model=model))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _LISTED)


@app.command()
def add(
    name: Annotated[str, Argument(metavar="PROVIDER/MODEL", help="provider/* for all that have none of their own.")],
    price: Annotated[str, Argument(metavar="JSON", help='Such as {"input_mtok": 2.5, "output_mtok": 10}.')],
    starts: Starts = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """A price from now or from a time on. What is booked stays."""
    provider, slash, model = name.partition("/")
    if not (provider and slash and model):
        raise ApiError(f"{name} can't be used: it must be provider/model")
    entry = _parsed(price)
    confirm(f"This prices {name} at {price} from {starts or 'now'} on.", yes)
    body = given(provider=provider, model=model, price=entry, effective_from=starts)
    _show(Api().change("POST", "/admin/prices", body), json)


@app.command()
def remove(price: Id, yes: Yes = False, json: Json = False) -> None:
    """End a price; the one before it counts again."""
    confirm(f"This ends the price {price}.", yes)
    _show(Api().change("DELETE", f"/admin/prices{path_of(price)}"), json)


@app.command()
def pull(
    source: Annotated[str | None, Argument(metavar="FILE|URL", help=f"By default {SOURCE}.")] = None,
    json: Json = False,
) -> None:
    """Stage what a price list of genai-prices' format says otherwise of the models served. It prices nobody yet."""
    source = source or os.environ.get(SOURCE, "").strip()
    if not source:
        raise ApiError(f"name a file or a URL, or set {SOURCE}")
    providers, api, rows = price_source.read(source), Api(), []
    for served in _models(api):
        provider, _, model = served["id"].partition("/")
        row = {"provider": provider, "model": model, "status": "as it is"}
        try:
            entry = price_source.entry_of(providers, provider, model, price_source.today())
            if differences(served.get("price_in_full"), entry):
                body = {"provider": provider, "model": model, "price": entry, "staged": True, "source": source[:200]}
                row = api.change("POST", "/admin/prices", body)
        except (price_source.NoPriceError, ApiError) as error:
            row["status"] = f"left out: {error}"
        rows.append(row)
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, ("provider", "model", "status", "price", "id"))


@app.command()
def diff(json: Json = False) -> None:
    """What applying the staged prices would change."""
    api = Api()
    known = {served["id"].lower(): served.get("price_in_full") for served in _models(api)}
    rows = [
        {**staged, "kind": kind, "now": now, "staged": then}
        for staged in api.rows("/admin/prices", 1000, status="staged")
        for kind, now, then in differences(known.get(f"{staged['provider']}/{staged['model']}"), staged["price"])
    ]
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _DIFF)


@app.command(name="apply")
def apply_prices(
    prices: Annotated[list[str] | None, Argument(metavar="ID", help="The staged prices' ids.")] = None,
    everything: Annotated[bool, Option("--all", help="All that are staged.")] = False,
    starts: Starts = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put staged prices in force, from now or from a time on."""
    if bool(prices) == everything:
        raise ApiError("name the ids of staged prices, or --all")
    api = Api()
    ids = list(prices or (row["id"] for row in api.rows("/admin/prices", 1000, status="staged")))
    confirm(f"This puts {len(ids)} staged prices in force from {starts or 'now'} on.", yes)
    body = given(effective_from=starts)
    rows = [api.change("POST", f"/admin/prices{path_of(id)}", body) for id in ids]
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _LISTED)


def differences(now: Mapping[str, Any] | None, then: Mapping[str, Any]) -> list[tuple[str, object, object]]:
    """By kind of token, what a price is and what it would be."""
    now = now or {}
    kinds = [kind for kind in {**now, **then} if kind in then or kind not in _DERIVED]
    return [(kind, now.get(kind), then.get(kind)) for kind in kinds if now.get(kind) != then.get(kind)]


def _models(api: Api) -> list[dict[str, Any]]:
    return [each for each in api.get("/models")["data"] if each["kind"] != "tier"]


def _parsed(text: str) -> dict[str, Any]:
    try:
        entry = simplejson.loads(text, use_decimal=True)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise ApiError(f"{text} can't be used: it must be a JSON object, as an entry of AI_PRICE_OVERRIDES")
    return entry


def _show(price: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(price)
    else:
        show.facts(price, _LISTED)

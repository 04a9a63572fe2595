"""The commands that look at the gateway as a whole, and the reset of its budget."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from typer import Argument, Option, Typer

from cli import show
from cli.api import Api, ApiError, path_of
from cli.ask import confirm
from cli.changes import about, changed

Json = Annotated[bool, Option("--json", help="One JSON document, for scripts.")]
Yes = Annotated[bool, Option("--yes", help="Don't ask.")]
Reason = Annotated[str | None, Option(help="For the audit.")]
Limit = Annotated[int, Option(min=1, help="At most so many rows.")]
From = Annotated[str | None, Option("--from", metavar="DAY", help="YYYY-MM-DD, included.")]
To = Annotated[str | None, Option("--to", metavar="DAY", help="YYYY-MM-DD, included.")]

_WINDOW: Final = ("window", "id", "opened_at", "closed_at", "spent_usd", "reserved_usd", "request_count")
_PROVIDER: Final = (
    "id", "status", "configured", "local", "tiers.sota", "tiers.cost_effective", "embedding_model", "cooldown_until",
    "last_success_at", "last_failure.kind", "key_expires_on", "missing",
)  # fmt: skip
_ATTEMPT: Final = (
    "reserved_at", "request_id", "attempt", "provider", "model", "tier", "key_id", "status", "outcome", "bound_usd",
    "cost_usd", "cost_basis", "input_tokens", "output_tokens",
)  # fmt: skip
_REFUSED: Final = ("minute", "key_id", "code", "calls", "last_at", "last_request_id")
_AUDIT: Final = ("n", "at", "actor", "action", "about", "changed", "source_ip", "request_id")
NAMES: Final = ("reset", "usage", "calls", "providers", "audit")


def add_to(app: Typer) -> None:
    """Put this module's commands into the application."""
    for command in (reset, usage, calls, providers, audit):
        app.command()(command)


def reset(reason: Reason = None, yes: Yes = False, json: Json = False) -> None:
    """Close the company's open window, and open the next one with nothing spent."""
    api = Api()
    confirm("This ends the month's budget window and begins another with the whole limit.", yes)
    show_reset(api.change("POST", "/admin/budget/reset", given(reason=reason)), json)


def usage(
    by: Annotated[str, Option(help="day, provider, model, tier, key, budget, tag:<name>; or several.")] = "day",
    budget: Annotated[str | None, Option(metavar="ID", help="Of what is under this budget of the tree now.")] = None,
    since: From = None,
    until: To = None,
    month: Annotated[str | None, Option(metavar="YYYY-MM", help="A month by its windows, for chargeback.")] = None,
    limit: Limit = 1000,
    csv: Annotated[bool, Option("--csv", help="The whole range as CSV.")] = False,
    json: Json = False,
) -> None:
    """Spend by day, provider, model, tier, key, budget of the tree, or tag."""
    api = Api()
    asked: dict[str, Any] = {"group_by": by, "from": since, "to": until, "month": month, "budget": budget}
    if csv:
        show.as_text(api.text("/admin/usage", "text/csv", **asked))
        return
    rows = list(api.rows("/admin/usage", limit, **asked))
    result = api.get("/admin/usage", limit=1, **asked) | {"rows": rows, "next_cursor": None}
    if json:
        show.as_json(result)
        return
    groups = [name for group in by.split(",") for name in ((group, "budget_id") if group == "budget" else (group,))]
    sums = ("cost_usd", "requests", "input_tokens", "output_tokens")
    show.table(rows, (*groups, *sums), total={groups[0]: "total", **result["total"]})


def calls(
    request_id: Annotated[str | None, Argument(help="One call's x-request-id: every attempt of it.")] = None,
    provider: Annotated[str | None, Option()] = None,
    model: Annotated[str | None, Option()] = None,
    key: Annotated[str | None, Option(help="A key's id.")] = None,
    outcome: Annotated[str | None, Option(help="success, or how it failed.")] = None,
    basis: Annotated[str | None, Option(help="actual or bound.")] = None,
    refused: Annotated[bool, Option("--refused", help="Refused calls by key, code and minute instead.")] = False,
    since: From = None,
    until: To = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Attempts as the ledger has them, the newest first; or all of one call. Never content."""
    api = Api()
    if request_id is not None:
        response = api.get(f"/admin/calls{path_of(request_id)}")
        rows = response["attempts"]
    else:
        filters = {"provider": provider, "model": model, "key": key, "outcome": outcome, "cost_basis": basis}
        asked = {**filters, "from": since, "to": until}
        rows = [] if refused else list(api.rows("/admin/calls", limit, **asked))
        response = {"rows": rows}
        if refused:
            response["refused"] = api.get("/admin/calls", limit=min(limit, 1000), status="refused", **asked)["refused"]
    if json:
        show.as_json(response)
    elif refused:
        show.table(response["refused"], _REFUSED)
    else:
        show.table(rows, _ATTEMPT)


def providers(
    probe: Annotated[bool, Option("--probe", help="Call each one live; a few tokens each, which are booked.")] = False,
    json: Json = False,
) -> None:
    """Every provider: configured or what is missing, cooldown, last failure."""
    response = Api().get("/admin/providers", probe="true" if probe else None)
    if json:
        show.as_json(response)
        return
    show.facts(response, ("mode", "chain"))
    probed = ("probe.ok", "probe.cost_usd", "probe.message") if probe else ()
    show.table(response["providers"], (*_PROVIDER, *probed))


def audit(
    action: Annotated[str | None, Option(help="Such as budget.reset or key.created.")] = None,
    actor: Annotated[str | None, Option(help="A key's id.")] = None,
    since: From = None,
    until: To = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Who changed what, when, from where; the newest first."""
    rows = list(Api().rows("/admin/audit", limit, action=action, actor=actor, **{"from": since, "to": until}))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table([row | {"about": about(row), "changed": changed(row)} for row in rows], _AUDIT)


def show_reset(row: dict[str, Any], json: bool) -> None:
    """The closed and the opened window of a reset, the company's or a key's."""
    if json:
        show.as_json(row)
    else:
        show.table([{"window": name, **row[name]} for name in ("closed", "opened")], _WINDOW)


def decimal(option: str, text: str) -> Decimal:
    """An amount, exact.

    :raises ApiError: when it isn't a number
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ApiError(f"{option} {text} can't be used: it must be a number")
    return number


def amount(option: str, text: str | None) -> Decimal | str | None:
    """An amount that `none` takes away, which comes back as it is; None where it isn't named.

    :raises ApiError: when it is neither
    """
    if text is None or text == "none":
        return text
    try:
        return decimal(option, text)
    except ApiError:
        raise ApiError(f"{option} {text} can't be used: it must be a number, or none") from None


def given(**fields: object) -> dict[str, object]:
    """A body of the fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}

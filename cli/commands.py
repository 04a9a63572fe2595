"""The commands that look at the gateway as a whole, and the reset of its budget."""

from typing import Annotated, Any, Final

from typer import Argument, Option, Typer

from cli import show
from cli.api import Api, path_of
from cli.ask import sure
from cli.changes import about, changed

Json = Annotated[bool, Option("--json", help="One JSON document, for scripts.")]
Yes = Annotated[bool, Option("--yes", help="Don't ask.")]
Reason = Annotated[str | None, Option(help="For the audit.")]
Limit = Annotated[int, Option(min=1, help="At most so many rows.")]
From = Annotated[str | None, Option("--from", metavar="DAY", help="YYYY-MM-DD, included.")]
To = Annotated[str | None, Option("--to", metavar="DAY", help="YYYY-MM-DD, included.")]

_BUDGET: Final = (
    "state", "monthly_limit_usd", "current_spend_usd", "reserved_usd", "remaining_usd", "usage_ratio", "request_count",
    "window.id", "window.opened_at", "window.resets_at", "forecast.month_end_usd", "forecast.exhausted_at",
)  # fmt: skip
_WINDOW: Final = ("window", "id", "opened_at", "closed_at", "spent_usd", "reserved_usd", "request_count")
_PROVIDER: Final = (
    "id", "status", "configured", "local", "tiers.sota", "tiers.cost_effective", "embedding_model", "cooldown_until",
    "last_success_at", "last_failure.kind", "key_expires_on", "missing",
)  # fmt: skip
_ATTEMPT: Final = (
    "reserved_at", "request_id", "attempt", "provider", "model", "tier", "key_id", "status", "outcome", "bound_usd",
    "cost_usd", "cost_basis", "input_tokens", "output_tokens",
)  # fmt: skip
_AUDIT: Final = ("n", "at", "actor", "action", "about", "changed", "source_ip", "request_id")
NAMES: Final = ("budget", "reset", "usage", "calls", "providers", "audit")


def add_to(app: Typer) -> None:
    """Put this module's commands into the application."""
    for command in (budget, reset, usage, calls, providers, audit):
        app.command()(command)


def budget(json: Json = False) -> None:
    """The month's budget: state, spend, what is left, forecast."""
    told = Api().get("/admin/budget")
    if json:
        show.as_json(told)
        return
    show.facts(told, _BUDGET)
    by_model = [{"model": name, "cost_usd": cost} for name, cost in told["by_model"].items()]
    show.table(sorted(by_model, key=lambda row: row["cost_usd"], reverse=True), ("model", "cost_usd"))


def reset(reason: Reason = None, yes: Yes = False, json: Json = False) -> None:
    """Close the company's open window, and open the next one with nothing spent."""
    api = Api()
    sure("This ends the month's budget window and begins another with the whole limit.", yes)
    show_reset(api.change("POST", "/admin/budget/reset", given(reason=reason)), json)


def usage(
    by: Annotated[str, Option(help="day, provider, model, tier, key, tag:<name>; several with commas.")] = "day",
    since: From = None,
    until: To = None,
    month: Annotated[str | None, Option(metavar="YYYY-MM", help="A month by its windows, for chargeback.")] = None,
    limit: Limit = 1000,
    csv: Annotated[bool, Option("--csv", help="The whole range as CSV.")] = False,
    json: Json = False,
) -> None:
    """Spend by day, provider, model, tier, key or tag."""
    api = Api()
    asked: dict[str, Any] = {"group_by": by, "from": since, "to": until, "month": month}
    if csv:
        show.as_text(api.text("/admin/usage", "text/csv", **asked))
        return
    rows = list(api.rows("/admin/usage", limit, **asked))
    told = api.get("/admin/usage", limit=1, **asked) | {"rows": rows, "next_cursor": None}
    if json:
        show.as_json(told)
        return
    groups = by.split(",")
    sums = ("cost_usd", "requests", "input_tokens", "output_tokens")
    show.table(rows, (*groups, *sums), total={groups[0]: "total", **told["total"]})


def calls(
    request_id: Annotated[str | None, Argument(help="One call's x-request-id: every attempt of it.")] = None,
    provider: Annotated[str | None, Option()] = None,
    model: Annotated[str | None, Option()] = None,
    key: Annotated[str | None, Option(help="A key's id.")] = None,
    outcome: Annotated[str | None, Option(help="success, or how it failed.")] = None,
    basis: Annotated[str | None, Option(help="actual or bound.")] = None,
    since: From = None,
    until: To = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Attempts as the ledger has them, the newest first; or all of one call. Never content."""
    api = Api()
    if request_id is not None:
        told = api.get(f"/admin/calls{path_of(request_id)}")
        rows = told["attempts"]
    else:
        filters = {"provider": provider, "model": model, "key": key, "outcome": outcome, "cost_basis": basis}
        rows = list(api.rows("/admin/calls", limit, **filters, **{"from": since, "to": until}))
        told = {"rows": rows}
    if json:
        show.as_json(told)
    else:
        show.table(rows, _ATTEMPT)


def providers(
    probe: Annotated[bool, Option("--probe", help="Call each one live; a few tokens each, which are booked.")] = False,
    json: Json = False,
) -> None:
    """Every provider: configured or what is missing, cooldown, last failure."""
    told = Api().get("/admin/providers", probe="true" if probe else None)
    if json:
        show.as_json(told)
        return
    show.facts(told, ("mode", "chain"))
    probed = ("probe.ok", "probe.cost_usd", "probe.message") if probe else ()
    show.table(told["providers"], (*_PROVIDER, *probed))


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


def show_reset(told: dict[str, Any], json: bool) -> None:
    """The closed and the opened window of a reset, the company's or a key's."""
    if json:
        show.as_json(told)
    else:
        show.table([{"window": name, **told[name]} for name in ("closed", "opened")], _WINDOW)


def given(**fields: object) -> dict[str, object]:
    """A body of the fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}

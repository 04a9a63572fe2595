"""`fusewire budget`: the month's budget, its limit, and what is booked in it by hand."""

from typing import Annotated, Final, Literal

from typer import Argument, Context, Option, Typer

from cli import show
from cli.api import Api
from cli.ask import confirm
from cli.commands import Json, Limit, Yes, decimal, given

_BUDGET: Final = (
    "state", "monthly_limit_usd", "limit.setting_usd", "limit.audited", "limit.next_window_usd", "current_spend_usd",
    "reserved_usd", "remaining_usd", "usage_ratio", "request_count", "window.id", "window.opened_at",
    "window.resets_at", "forecast.month_end_usd", "forecast.exhausted_at",
)  # fmt: skip
_LIMIT: Final = ("state", "monthly_limit_usd", "remaining_usd", "limit.setting_usd", "limit.maximum_usd",
                 "limit.next_window_usd", "limit.audited")  # fmt: skip
_ADJUSTMENT: Final = ("at", "window_id", "amount_usd", "reason", "actor", "id")
_ADJUSTED: Final = ("state", "window.id", "window.spent_usd", "window.reserved_usd", "adjustment.id")

app = Typer(invoke_without_command=True)

Window = Annotated[int | None, Option("--window", min=1, metavar="ID", help="By default the open one.")]


@app.callback()
def budget(context: Context, json: Json = False) -> None:
    """The month's budget: state, spend, what is left, forecast."""
    if context.invoked_subcommand is not None:
        return
    response = Api().get("/admin/budget")
    if json:
        show.as_json(response)
        return
    show.facts(response, _BUDGET)
    by_model = [{"model": name, "cost_usd": cost} for name, cost in response["by_model"].items()]
    show.table(sorted(by_model, key=lambda row: row["cost_usd"], reverse=True), ("model", "cost_usd"))


@app.command()
def limit(
    amount: Annotated[str, Argument(metavar="USD", help="none takes back what was set: the setting counts again.")],
    reason: Annotated[str, Option(help="For the audit.")],
    until: Annotated[
        Literal["window", "good"], Option(help="Until the open window ends, or for good until it is changed.")
    ] = "good",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Set the month's limit while the gateway runs, in place of AI_MONTHLY_BUDGET_USD."""
    usd = None if amount == "none" else decimal("USD", amount)
    ends = "window" if until == "window" and usd is not None else None
    how = "until the open window ends" if ends else "for good"
    confirm("This takes back the limit that was set." if usd is None else f"This sets {usd} USD {how}.", yes)
    body = {"monthly_limit_usd": usd, "until": ends, "reason": reason}
    response = Api().change("PATCH", "/admin/budget", body)
    if json:
        show.as_json(response)
    else:
        show.facts(response, _LIMIT)


@app.command()
def adjust(
    amount: Annotated[str, Option(metavar="USD", help="What is booked; negative where it takes back.")],
    reason: Annotated[str, Option(help="For the audit: an invoice, a restore.")],
    window: Window = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Book by hand what a restore lost, or what a vendor's invoice says beside the books."""
    usd = decimal("--amount", amount)
    confirm(f"This books {usd} USD in {'the open window' if window is None else f'window {window}'}.", yes)
    body = given(amount_usd=usd, reason=reason, window_id=window)
    response = Api().change("POST", "/admin/budget/adjustments", body)
    if json:
        show.as_json(response)
    else:
        show.facts(response, _ADJUSTED)


@app.command()
def adjustments(window: Window = None, limit: Limit = 20, json: Json = False) -> None:
    """What was booked by hand, the newest first."""
    rows = list(Api().rows("/admin/budget/adjustments", limit, window_id=window))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _ADJUSTMENT)

"""`fusewire budget`: the month's budget, and what is booked in it by hand."""

from typing import Annotated, Final

from typer import Context, Option, Typer

from cli import show
from cli.api import Api
from cli.ask import confirm
from cli.commands import Json, Limit, Yes, decimal, given

_BUDGET: Final = (
    "state", "monthly_limit_usd", "current_spend_usd", "reserved_usd", "remaining_usd", "usage_ratio", "request_count",
    "window.id", "window.opened_at", "window.resets_at", "forecast.month_end_usd", "forecast.exhausted_at",
)  # fmt: skip
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

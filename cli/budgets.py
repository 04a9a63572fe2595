"""`fusewire budgets`: the tree of budgets below the company's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from typer import Argument, Context, Option, Typer

from cli import show
from cli.api import Api, ApiError, path_of
from cli.ask import confirm
from cli.commands import Json, Limit, Reason, Yes, amount, given, show_reset

NONE: Final = "none"
"""What takes a limit away."""
_TREE: Final = (
    "name", "id", "state", "period", "limit_usd", "current_spend_usd", "reserved_usd", "remaining_usd", "waiting",
    "window.resets_at", "models",
)  # fmt: skip
_NESTED: Final = ("window", "forecast")
_STEP: Final = "  "

app = Typer(invoke_without_command=True)

Id = Annotated[str, Argument(help="The budget's id, bud_...")]
Under = Annotated[str | None, Option(metavar="ID", help="The budget above it; by default the company's.")]
Usd = Annotated[str | None, Option("--limit", metavar="USD", help="What a period may spend; none: it only counts.")]
Period = Annotated[str | None, Option(help="month (the default), week, day or none.")]
Alert = Annotated[str | None, Option(metavar="SHARE", help="Of the limit, for HALF_OPEN; none: the setting's.")]
Open = Annotated[str | None, Option("--open", metavar="SHARE", help="Of the limit, for OPEN; none: the setting's.")]
Model = Annotated[list[str] | None, Option("--model", help="It counts these alone, repeatable; none: every call.")]


@app.callback()
def budgets(context: Context, limit: Limit = 1000, json: Json = False) -> None:
    """The tree of budgets: what each has spent, reserved and left. One that is indented is below the one before it."""
    if context.invoked_subcommand is not None:
        return
    rows = list(Api().rows("/admin/budgets", limit))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(list(indented(rows)), _TREE)


@app.command()
def create(
    name: Annotated[str, Argument(help="For people: whose it is.")],
    under: Under = None,
    limit: Usd = None,
    period: Period = None,
    alert: Alert = None,
    opens: Open = None,
    model: Model = None,
    json: Json = False,
) -> None:
    """A new budget."""
    body = {"name": name, **given(parent_id=under), **_changes(limit, period, alert, opens, model)}
    _show(Api().change("POST", "/admin/budgets", body), json)


@app.command(name="show")
def show_budget(budget: Id, json: Json = False) -> None:
    """One budget, its window, and where its spending leads."""
    _show(Api().get(f"/admin/budgets{path_of(budget)}"), json)


@app.command()
def update(
    budget: Id,
    name: Annotated[str | None, Option(help="A new name.")] = None,
    limit: Usd = None,
    period: Period = None,
    alert: Alert = None,
    opens: Open = None,
    model: Model = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Change what is named, and leave the rest."""
    changes = {**given(name=name), **_changes(limit, period, alert, opens, model)}
    if not changes:
        raise ApiError("say what to change, such as --limit 80")
    named = ", ".join(f"{field} = {show.cell(value)}" for field, value in changes.items())
    confirm(f"This sets {named} on {budget}.", yes)
    _show(Api().change("PATCH", f"/admin/budgets{path_of(budget)}", changes), json)


@app.command()
def move(
    budget: Id,
    under: Annotated[str, Option(metavar="ID", help="The budget above it from now on; none: the company's.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put a budget, with all that is below it, under another. What is spent stays where it was booked."""
    above = None if under == NONE else under
    confirm(f"This puts {budget} under {above or 'the company'}.", yes)
    _show(Api().change("PATCH", f"/admin/budgets{path_of(budget)}", {"parent_id": above}), json)


@app.command()
def delete(budget: Id, yes: Yes = False, json: Json = False) -> None:
    """End a budget that has neither budgets nor keys below it."""
    confirm(f"This ends {budget} for good.", yes)
    _show(Api().change("DELETE", f"/admin/budgets{path_of(budget)}"), json)


@app.command()
def reset(budget: Id, reason: Reason = None, yes: Yes = False, json: Json = False) -> None:
    """Close the budget's open window, and open the next one with nothing spent."""
    confirm(f"This begins a new window for {budget} with its whole limit.", yes)
    show_reset(Api().change("POST", f"/admin/budgets{path_of(budget)}/reset", given(reason=reason)), json)


def indented(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows in the order of the tree, names in order, each name behind as many steps as it is below the first.

    One whose parent isn't among the rows begins a tree of its own.
    """
    known = {row["id"] for row in rows}
    below: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["name"])):
        parent = row["parent_id"]
        below.setdefault(parent if parent in known else None, []).append(row)
    left = [(row, 0) for row in reversed(below.get(None, []))]
    while left:
        row, depth = left.pop()
        yield {**row, "name": f"{_STEP * depth}{row['name']}"}
        left += [(child, depth + 1) for child in reversed(below.get(row["id"], []))]


def _show(budget: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(budget)
    else:
        show.facts(budget, list(show.lines(budget, nested=_NESTED)))


def _changes(
    limit: str | None, period: str | None, alert: str | None, opens: str | None, models: Sequence[str] | None
) -> dict[str, object]:
    """The attributes that were named, as the API takes them; null where one is taken away."""
    named = {
        "limit_usd": amount("--limit", limit),
        "period": period,
        "alert_threshold": amount("--alert", alert),
        "open_threshold": amount("--open", opens),
        "models": list(models or ()),
    }
    kept = {name: value for name, value in named.items() if value not in (None, [])}
    # A period is one of its words, of which none is one.
    return {name: None if value in (NONE, [NONE]) and name != "period" else value for name, value in kept.items()}

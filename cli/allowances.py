"""`fusewire allowances`: what models' servers add to prompts, where a usage has shown more than was allowed."""

from typing import Annotated, Final

from typer import Argument, Typer

from cli import show
from cli.api import Api, path_of
from cli.ask import confirm
from cli.commands import Json, Limit, Yes

_ALLOWANCE: Final = ("id", "tokens", "raised_at", "request_id")

app = Typer()


@app.command(name="list")
def list_allowances(limit: Limit = 100, json: Json = False) -> None:
    """Raised allowances, in tokens, with the call that showed each."""
    rows = list(Api().rows("/admin/allowances", limit))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _ALLOWANCE)


@app.command()
def remove(
    model: Annotated[str, Argument(metavar="PROVIDER/MODEL")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take one back: the provider's setting holds again, until a usage shows that it is too small."""
    confirm(f"This takes the raised allowance of {model} back.", yes)
    response = Api().change("DELETE", f"/admin/allowances{path_of(*model.split('/'))}")
    if json:
        show.as_json(response)
    else:
        show.facts(response, _ALLOWANCE)

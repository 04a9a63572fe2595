"""`fusewire keys`: what callers may do and spend. An API key's secret is shown once, when it is made."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from typer import Argument, Option, Typer

from cli import show
from cli.api import Api, ApiError, path_of
from cli.ask import confirm
from cli.commands import Json, Limit, Reason, Yes, amount, given, show_reset

NONE: Final = "none"
"""What takes a limit away."""

_LISTED: Final = (
    "id", "name", "prefix", "scopes", "scope_budget_id", "budget_id", "state", "monthly_budget_usd", "period",
    "current_spend_usd", "reserved_usd", "remaining_usd", "expires_at", "revoked_at",
)  # fmt: skip
_HIDDEN: Final = ("secrets",)
"""What a key's lines leave out: `prefix` says which secret it is."""
_NESTED: Final = ("window", "minute", "forecast")

app = Typer()

Id = Annotated[str, Argument(help="The key's id, key_...")]
Scope = Annotated[list[str] | None, Option("--scope", help="complete, read (look only) or admin; repeatable.")]
Bound = Annotated[
    str | None, Option("--scope-budget", metavar="ID", help="Binds read and admin to a budget of the tree; none: not.")
]
Under = Annotated[str | None, Option(metavar="ID", help="The budget that it is under; none: the company's.")]
Budget = Annotated[str | None, Option(metavar="USD", help="A budget of its own for a period; none takes it away.")]
Period = Annotated[str | None, Option(help="Of its budget: month (the default), week, day or none.")]
PerUser = Annotated[str | None, Option(metavar="USD", help="For each user of its requests; none takes it away.")]
Requests = Annotated[str | None, Option("--requests", metavar="N", help="Per minute; none takes it away.")]
Tokens = Annotated[str | None, Option("--tokens", metavar="N", help="Per minute; none takes it away.")]
Model = Annotated[list[str] | None, Option("--model", help="A tier or model it may use, repeatable; none: any.")]
Data = Annotated[list[str] | None, Option("--classification", help="Data it may send, repeatable; none: any.")]
Expires = Annotated[str | None, Option(metavar="TIME", help="With its offset; none: never.")]
Tag = Annotated[list[str] | None, Option("--tag", metavar="NAME=TEXT", help="Repeatable; none: no tags.")]


@app.command(name="list")
def list_keys(limit: Limit = 100, json: Json = False) -> None:
    """Every key with its budget, the newest first."""
    rows = list(Api().rows("/admin/keys", limit))
    if json:
        show.as_json({"rows": rows})
    else:
        show.table(rows, _LISTED)


@app.command()
def create(
    name: Annotated[str, Argument(help="For people: whose it is.")],
    scope: Scope = None,
    scope_budget: Bound = None,
    under: Under = None,
    budget: Budget = None,
    period: Period = None,
    per_user: PerUser = None,
    requests: Requests = None,
    tokens: Tokens = None,
    model: Model = None,
    classification: Data = None,
    expires: Expires = None,
    tag: Tag = None,
    json: Json = False,
) -> None:
    """A new key, with the scope complete unless another is named. Its secret is shown this once."""
    limits = _changes(budget, requests, tokens, model, classification, expires, tag)
    places = _places(scope_budget, under, period, per_user)
    body = {"name": name, "scopes": scope or ["complete"], **places, **limits}
    _show_new(Api().change("POST", "/admin/keys", body), json)


@app.command(name="show")
def show_key(key: Id, json: Json = False) -> None:
    """One key, its limits, what is left of them, and where its spending leads."""
    _show(Api().get(f"/admin/keys{path_of(key)}"), json)


@app.command()
def update(
    key: Id,
    name: Annotated[str | None, Option(help="A new name.")] = None,
    scope: Scope = None,
    scope_budget: Bound = None,
    under: Under = None,
    budget: Budget = None,
    period: Period = None,
    per_user: PerUser = None,
    requests: Requests = None,
    tokens: Tokens = None,
    model: Model = None,
    classification: Data = None,
    expires: Expires = None,
    tag: Tag = None,
    json: Json = False,
) -> None:
    """Change what is named, and leave the rest. Tags are replaced all together."""
    changes = given(name=name, scopes=scope)
    changes |= _places(scope_budget, under, period, per_user)
    changes |= _changes(budget, requests, tokens, model, classification, expires, tag)
    if not changes:
        raise ApiError("say what to change, such as --budget 80")
    _show(Api().change("PATCH", f"/admin/keys{path_of(key)}", changes), json)


@app.command()
def revoke(key: Id, yes: Yes = False, json: Json = False) -> None:
    """End a key for good."""
    confirm(f"This ends {key} for good.", yes)
    _show(Api().change("DELETE", f"/admin/keys{path_of(key)}"), json)


@app.command()
def rotate(
    key: Id,
    overlap: Annotated[int, Option(min=0, metavar="SECONDS", help="For how long the old secret goes on.")] = 86_400,
    json: Json = False,
) -> None:
    """A second secret, shown this once; the old one goes on for a day, or as long as is said."""
    _show_new(Api().change("POST", f"/admin/keys{path_of(key)}/rotate", {"overlap_seconds": overlap}), json)


@app.command(name="reset")
def reset_key(key: Id, reason: Reason = None, yes: Yes = False, json: Json = False) -> None:
    """Close the key's open window, and open the next one with nothing spent."""
    confirm(f"This begins a new budget window for {key} with its whole limit.", yes)
    show_reset(Api().change("POST", f"/admin/keys{path_of(key)}/reset", given(reason=reason)), json)


def _show_new(key: dict[str, Any], json: bool) -> None:
    if not json:
        show.note("The secret, shown this once:")
        show.as_text(key.pop("key") + "\n")
    _show(key, json)


def _show(key: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(key)
    else:
        show.facts(key, list(show.lines(key, nested=_NESTED, hidden=_HIDDEN)))


def _places(scope_budget: str | None, under: str | None, period: str | None, per_user: str | None) -> dict[str, object]:
    """Where a key is in the tree and what its period is, as the API takes them; of its periods, `none` is one."""
    places = given(scope_budget_id=scope_budget, budget_id=under, per_user_limit_usd=amount("--per-user", per_user))
    return {name: None if value == NONE else value for name, value in places.items()} | given(period=period)


def _changes(
    budget: str | None,
    requests: str | None,
    tokens: str | None,
    models: Sequence[str] | None,
    classifications: Sequence[str] | None,
    expires: str | None,
    tags: Sequence[str] | None,
) -> dict[str, object]:
    """The limits that were named, as the API takes them; null where one is taken away."""
    named = {
        "monthly_budget_usd": amount("--budget", budget),
        "requests_per_minute": _whole("--requests", requests),
        "tokens_per_minute": _whole("--tokens", tokens),
        "allowed_models": list(models or ()),
        "allowed_classifications": list(classifications or ()),
        "expires_at": expires,
    }
    kept = {name: value for name, value in named.items() if value not in (None, [])}
    limits: dict[str, object] = {name: None if value in (NONE, [NONE]) else value for name, value in kept.items()}
    if tags:
        limits["tags"] = {} if list(tags) == [NONE] else dict(map(_tag, tags))
    return limits


def _whole(option: str, text: str | None) -> int | str | None:
    if text is None or text == NONE:
        return text
    if not (text.isascii() and text.isdecimal()):
        raise ApiError(f"{option} {text} can't be used: it must be a whole number, or none")
    return int(text)


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ApiError(f"--tag {text} can't be used: it must be NAME=TEXT, or none alone")
    return name, value

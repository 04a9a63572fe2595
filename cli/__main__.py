"""`bin/fusewire`: parse, ask the gateway, show. What goes wrong is one line on standard error, and the exit status.

0: done. 1: the gateway refused, or can't be reached. 2: the command line can't be understood.
"""

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, Exit, TyperException

from cli import allowances, budget, budgets, commands, keys, prices
from cli.api import ApiError

app = typer.Typer(
    name="fusewire",
    help="Budget, keys, usage and providers of a fusewire gateway. FUSEWIRE_URL says where it is (default "
    "http://localhost:8000), FUSEWIRE_KEY is a key with the scope admin, or read to look only.",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(budget.app, name="budget", help="The month's budget, and what is booked in it by hand.")
app.add_typer(budgets.app, name="budgets", help="The tree of budgets below it, for teams and projects.")
commands.add_to(app)
app.add_typer(keys.app, name="keys", help="API keys: who may call, and what each may spend.")
app.add_typer(prices.app, name="prices", help="What models cost, from when on, and what a source proposes.")
app.add_typer(allowances.app, name="allowances", help="What servers add to prompts beyond the settings.")


def main(arguments: Sequence[str] | None = None) -> int:
    """:return: the exit status"""
    command = typer.main.get_command(app)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        ended = command.main(args=words or ["--help"], prog_name="fusewire", standalone_mode=False)
    except ApiError as error:
        return _failed(str(error), 1)
    except TyperException as error:
        known = [word for word in words[:1] if word in _names()]
        return _failed(f"{error.format_message().rstrip('.')}: see {' '.join(['fusewire', *known, '--help'])}", 2)
    except Exit as ended_early:
        return ended_early.exit_code
    except (Abort, KeyboardInterrupt):
        return _failed("stopped", 1)
    return ended if isinstance(ended, int) else 0


def _names() -> list[str]:
    return [*commands.NAMES, "budget", "budgets", "keys", "prices", "allowances"]


def _failed(message: str, status: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"fusewire: {''.join(c if c.isprintable() else '?' for c in line)}.\n".replace("..\n", ".\n"))
    return status


if __name__ == "__main__":
    sys.exit(main())

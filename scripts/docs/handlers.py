"""Which routes a function handles, by reading its code."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fusewire.http import routes
from fusewire.http.route import Route

FUNCTIONS: Final = Path(__file__).resolve().parents[2] / "functions"


def handlers(file: Path) -> Iterator[tuple[Route, ast.FunctionDef]]:
    """Each `@app.handles(routes.NAME)` of a `functions/*/app.py` with its handler.

    :raises ValueError: for another decorator
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                name = text.removeprefix("app.handles(routes.").removesuffix(")")
                if text != f"app.handles(routes.{name})":
                    raise ValueError(f"{file}: @{text} isn't @app.handles(routes.NAME)")
                yield getattr(routes, name), node


def handled_by(file: Path) -> list[Route]:
    """The routes of a `functions/*/app.py`."""
    return [route for route, _ in handlers(file)]


def handled() -> dict[str, list[Route]]:
    """The routes of each function, by its folder's name."""
    return {file.parent.name: handled_by(file) for file in sorted(FUNCTIONS.glob("*/app.py"))}

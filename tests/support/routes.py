"""Which routes a function handles, by reading its code."""

import ast
from collections.abc import Iterator
from pathlib import Path

from fusewire.http import routes
from fusewire.http.route import Route


def handlers(file: Path) -> Iterator[tuple[Route, ast.FunctionDef]]:
    """Each `@app.handles(routes.NAME)` of a `functions/*/app.py` with its handler."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                assert isinstance(decorator, ast.Call), ast.unparse(decorator)
                assert ast.unparse(decorator.func) == "app.handles", ast.unparse(decorator)
                module, _, name = ast.unparse(decorator.args[0]).partition(".")
                assert module == "routes"
                yield getattr(routes, name), node


def handled_by(file: Path) -> list[Route]:
    """The routes of a `functions/*/app.py`."""
    return [route for route, _ in handlers(file)]

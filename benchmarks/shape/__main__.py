"""`python -m benchmarks.shape`: serve it, with a Postgres of its own in FUSEWIRE_HOME, on PORT until it is stopped."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import uvloop

from benchmarks import ledger
from benchmarks.peers import ROOT, SLOTS
from benchmarks.shape import ENTRY
from fusewire.store.migrate import migrate
from local.platform import Platform
from local.postgres import as_app, embedded_postgres
from local.template import Function, Route, Template

_WORKERS = 8  # as LOCAL_CONCURRENCY has it by default
_LAYER = ROOT / "layers" / "core"


def main() -> None:
    home = Path(os.environ["FUSEWIRE_HOME"])
    home.mkdir(parents=True)
    with embedded_postgres(home / "postgres", 2 * _WORKERS) as owner:
        migrate(owner)
        url = as_app(owner)
        statements = ledger.templates(url, SLOTS)
        own = {
            "DATABASE_URL": url,
            "SHAPE_RESERVE": _argument(statements["reserve"]),
            "SHAPE_END": _argument(statements["end"]),
        }
        uvloop.run(_serve(os.environ | own))


def _argument(template: str) -> str:
    """As pgbench's, with the mark for the id that the function knows."""
    return template.replace("%1$s", ENTRY).replace("%%", "%")


async def _serve(variables: dict[str, str]) -> None:
    wrapper = _LAYER / "bin" / "stream"
    wanted = frozenset(variables)
    function = Function("shape", Path(__file__).parent, "app.handler", 30, 512, wrapper, variables=wanted)
    paths = (("POST", "/api/v1/chat/completions"), ("GET", "/api/v1/health"))
    routes = tuple(Route(method, path, function.name) for method, path in paths)
    public = socket.socket()
    public.bind(("127.0.0.1", int(os.environ["PORT"])))
    public.listen()
    public.setblocking(False)
    platform = Platform(Template((function,), routes, ()), public, _WORKERS, variables, ())
    stop_requested = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop_requested.set)
    await platform.start()
    try:
        await stop_requested.wait()
    finally:
        await platform.stop()


if __name__ == "__main__":
    main()

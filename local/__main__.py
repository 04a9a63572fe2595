"""`make run`: Postgres, a model, the gateway, in this order; and back when it is told to stop."""

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import psycopg
import uvloop

from fusewire import VERSION
from fusewire.config import MAX_CONNECTIONS, ConfigurationError
from fusewire.errors import FusewireError
from fusewire.store.migrate import IncompatibleSchemaError, migrate
from local import StartError, banner, ollama
from local.console import Console
from local.environment import Environment, read_environment, takes_several
from local.home import home_of_its_own
from local.mode import assembled, mode_of, wants_stand_in
from local.platform import Platform
from local.postgres import as_app, embedded_postgres
from local.spelling import misspelt
from local.template import Function, Template, read_template

_PROJECT: Final = Path(__file__).resolve().parent.parent
_DOTENV: Final = Path(".env")
_READY_SECONDS: Final = 150  # above what a function may take to start on a busy machine
_STOPS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # `nohup` has it ignored, and means it.
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
)


def main() -> int:
    """:return: the exit status"""
    for number in _STOPS:
        signal.signal(number, _interrupt)
    try:
        environment = read_environment(os.environ, _DOTENV)
        with ExitStack() as stack:
            _run(environment, stack)
    except (StartError, ConfigurationError) as error:
        _say(f"\nfusewire can't start. {error}")
        return 1
    except KeyboardInterrupt:
        pass  # told to stop before it served; everything that had started is down again
    _say("Stopped.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the start; a second signal would only break off the cleaning up."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)


def _run(environment: Environment, stack: ExitStack) -> None:
    _say(f"fusewire {VERSION}")
    stack.enter_context(home_of_its_own(environment.home))
    public = stack.enter_context(_listening(environment.port))
    warnings = tuple(misspelt(environment.written, os.environ.keys()))
    for warning in warnings:
        _step("Warning", warning)
    # Before anything is started: a wrong setting is one line, not a stack of services.
    mode = mode_of(environment.variables)
    variables = environment.variables | {"AI_MODE": mode.name}
    model = None
    if wants_stand_in(variables, mode):
        assembled(variables | ollama.as_variables("http://127.0.0.1"), mode)
        model = stack.enter_context(ollama.model_process())
    else:
        assembled(variables, mode)
    owner = environment.migration_database_url
    if owner is not None:
        _step("Postgres", "yours, from DATABASE_URL")
    else:
        each = [_connections(environment, function) for function in _template(variables).functions]
        connections = environment.concurrency * sum(each)
        owner = stack.enter_context(embedded_postgres(environment.home / "postgres", connections))
        variables["DATABASE_URL"] = as_app(owner)
        _step("Postgres", f"started, its data is in {_short(environment.home / 'postgres')}")
    applied = _migrated(owner)
    _step("Ledger", f"migrated: {', '.join(applied)}" if applied else "up to date")
    if model is not None:
        variables |= ollama.as_variables(ollama.address_of(model))
        _step("Model", f"SmolLM2-135M-Instruct, as Ollama's {ollama.MODEL}")
    gateway = banner.Gateway(
        port=environment.port,
        core=assembled(variables, mode),
        mode=mode,
        stand_in=model is not None,
        dotenv=_DOTENV.absolute(),
        admin_key=environment.admin_key,
        warnings=warnings,
        console=environment.console,
    )
    try:
        uvloop.run(_serve(environment, public, variables, gateway))
    finally:
        _ignore_signals()


def _template(variables: Mapping[str, str]) -> Template:
    return read_template(_PROJECT / "infra" / "template.yaml", variables)


def _connections(environment: Environment, function: Function) -> int:
    """That a worker of a function opens at most."""
    if not takes_several(function, environment.variables) or environment.calls_per_worker == 1:
        return 1
    # One more listens for the calls that wait for room (`fusewire/store/listener.py`).
    return min(environment.calls_per_worker, MAX_CONNECTIONS) + 1


async def _serve(
    environment: Environment, public: socket.socket, variables: Mapping[str, str], gateway: banner.Gateway
) -> None:
    stop_requested = asyncio.Event()
    for number in _STOPS:
        asyncio.get_running_loop().add_signal_handler(number, stop_requested.set)
    origins = gateway.core.settings.cors_origins
    console = Console()
    platform = Platform(
        _template(variables),
        public,
        environment.concurrency,
        _for_workers(variables),
        origins,
        environment.hosts,
        console,
        calls_per_worker=environment.calls_per_worker,
    )
    await platform.start()
    building: asyncio.Task[None] | None = None
    ready = asyncio.create_task(asyncio.to_thread(_wait_until_ready, environment.port))
    try:
        stopping = asyncio.create_task(stop_requested.wait())
        await asyncio.wait((ready, stopping), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            _say(await asyncio.to_thread(_banner, gateway))
            if environment.console:
                # Not before: nobody's first answer waits for it.
                address = f"http://localhost:{environment.port}/"
                building = asyncio.create_task(console.build(partial(_step, "Console"), address))
        await stopping
        _say("\nStopping: calls in flight get ten seconds.")
    finally:
        ready.cancel()
        if building is not None:
            building.cancel()
            await asyncio.wait((building,))
        await platform.stop()


def _listening(port: int) -> socket.socket:
    public = socket.socket()
    public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        public.bind(("127.0.0.1", port))
        public.listen()
    except OSError as error:
        public.close()
        raise StartError(
            f"Port {port} can't be used ({error.strerror}): stop what listens there, or choose another: "
            "`make run PORT=8001`."
        ) from error
    public.setblocking(False)
    return public


def _migrated(database_url: str) -> list[str]:
    try:
        return migrate(database_url)
    except IncompatibleSchemaError as error:
        raise StartError(
            f"The ledger's database can't be used: {error}, or, without DATABASE_URL, move the folder postgres in "
            "FUSEWIRE_HOME (.fusewire) away."
        ) from error
    except psycopg.ProgrammingError as error:
        # Its text may quote the connection string.
        raise StartError(
            f"DATABASE_URL can't be used ({type(error).__name__}): postgresql://user@host/name."
        ) from error
    except psycopg.Error as error:
        reason = str(error).partition("\n")[0].rpartition(": ")[2] or type(error).__name__
        raise StartError(
            f"The ledger's Postgres can't be used ({reason}): see that it runs and what DATABASE_URL says, or leave "
            "DATABASE_URL unset for one that is started here."
        ) from error


def _for_workers(variables: Mapping[str, str]) -> dict[str, str]:
    # A proxy that the environment names is not for the model on this machine. The small letters win.
    direct = variables.get("no_proxy") or variables.get("NO_PROXY")
    return {
        **variables,
        "PYTHONPATH": str(_PROJECT / "layers" / "core" / "python"),
        "no_proxy": f"{direct},127.0.0.1,localhost" if direct else "127.0.0.1,localhost",
    }


def _wait_until_ready(port: int) -> None:
    """The first request.

    :raises StartError: when health doesn't answer 200
    """
    # Not through a proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/v1/health", timeout=_READY_SECONDS):
            return
    except urllib.error.HTTPError as error:
        raise StartError(f"GET /api/v1/health answered {error.code}: {error.read(2000).decode()}") from error
    except OSError as error:
        raise StartError(f"GET /api/v1/health didn't answer: {error}") from error


def _banner(gateway: banner.Gateway) -> str:
    """:raises StartError: when the budget or the secrets can't be read"""
    try:
        budget, *_ = gateway.core.ledger.budget()
        return banner.banner(gateway, budget)
    except FusewireError as error:
        raise StartError(error.message) from error
    finally:
        gateway.core.database.close()


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _step(name: str, text: str) -> None:
    _say(banner.step(name, text))


def _say(text: str) -> None:
    """Progress goes to standard error; standard output has the functions' log lines and nothing else."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

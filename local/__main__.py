"""`make run`: Postgres, a model, the gateway, in this order; and back when it is told to stop."""

import asyncio
import fcntl
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import psycopg
import uvloop

from fusewire import VERSION
from fusewire.config import ConfigurationError, load_settings
from fusewire.migrations import ForeignSchemaError, migrate
from fusewire.services import assemble
from local import StartError, ollama
from local.environment import Environment, read_environment
from local.platform import Platform
from local.postgres import as_app, embedded_postgres
from local.template import Template, read_template

_PROJECT: Final = Path(__file__).resolve().parent.parent
_READY_SECONDS: Final = 30
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
        environment = read_environment(os.environ, Path(".env"))
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
    stack.enter_context(_home_of_its_own(environment.home))
    public = stack.enter_context(_listening(environment.port))
    variables = dict(environment.variables)
    model = None
    stand_in = ollama.as_variables("http://127.0.0.1") if ollama.wanted(variables) else {}
    # Before anything is started: a wrong setting is one line, not a stack of services.
    assemble(load_settings(stand_in | variables))
    if stand_in:
        model = stack.enter_context(ollama.model_process())
    owner = environment.migration_database_url
    if owner is not None:
        _step("Postgres", "yours, from DATABASE_URL")
    else:
        workers = environment.concurrency * len(_template(variables).functions)
        owner = stack.enter_context(embedded_postgres(environment.home / "postgres", workers))
        variables["DATABASE_URL"] = as_app(owner)
        _step("Postgres", f"started, its data is in {_short(environment.home / 'postgres')}")
    applied = _migrated(owner)
    _step("Ledger", f"migrated: {', '.join(applied)}" if applied else "up to date")
    if model is not None:
        address = ollama.address_of(model)
        variables = ollama.as_variables(address) | variables
        _step("Model", f"SmolLM2-135M-Instruct, as Ollama's {ollama.MODEL}")
    try:
        uvloop.run(_serve(environment, public, variables))
    finally:
        _ignore_signals()


def _template(variables: Mapping[str, str]) -> Template:
    return read_template(_PROJECT / "infra" / "template.yaml", variables)


async def _serve(environment: Environment, public: socket.socket, variables: Mapping[str, str]) -> None:
    told_to_stop = asyncio.Event()
    for number in _STOPS:
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    origins = load_settings(variables).cors_origins
    platform = Platform(_template(variables), public, environment.concurrency, _for_workers(variables), origins)
    await platform.start()
    ready = asyncio.create_task(asyncio.to_thread(_wait_until_ready, environment.port))
    try:
        stopping = asyncio.create_task(told_to_stop.wait())
        await asyncio.wait((ready, stopping), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            _welcome(environment.port, guarded=environment.variables["AUTH_MODE"] == "keys")
        await stopping
        _say("\nStopping: calls in flight get ten seconds.")
    finally:
        ready.cancel()
        await platform.stop()


@contextmanager
def _home_of_its_own(home: Path) -> Iterator[None]:
    """The data's folder, locked against a second gateway."""
    with ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((home / "lock").open("a+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        except BlockingIOError as error:
            lock.seek(0)
            raise StartError(
                f"Another fusewire (process {lock.read().strip() or 'unknown'}) uses {home}: stop it first, or set "
                "FUSEWIRE_HOME and PORT for a second one."
            ) from error
        except OSError as error:
            raise StartError(
                f"The folder {home} can't be used ({error.strerror}): set FUSEWIRE_HOME to another."
            ) from error
        yield


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
    except ForeignSchemaError as error:
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
    """The variables of a worker; what says that this were AWS is left out."""
    kept = {name: value for name, value in variables.items() if name != "AWS_EXECUTION_ENV"}
    # A proxy that the environment names is not for the model on this machine. The small letters win.
    direct = kept.get("no_proxy") or kept.get("NO_PROXY")
    return kept | {
        "PYTHONPATH": str(_PROJECT / "layers" / "core" / "python"),
        "no_proxy": f"{direct},127.0.0.1,localhost" if direct else "127.0.0.1,localhost",
    }


def _wait_until_ready(port: int) -> None:
    """The first request through the front door.

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


def _welcome(port: int, *, guarded: bool) -> None:
    key = ' -H "Authorization: Bearer $ADMIN_API_KEY"' if guarded else ""
    base = f"http://localhost:{port}/api/v1"
    question = '{"model": "sota", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    _step("Ready", base)
    _say(
        f"\nTry:\n  curl {base}/chat/completions{key} -H 'content-type: application/json' -d '{question}'\n"
        f"  curl {base}/admin/budget{key}\n"
        f"  curl {base}/admin/providers{key}\n\nCtrl-C stops everything. The log follows."
    )


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _step(name: str, told: str) -> None:
    _say(f"  {name:<9} {told}")


def _say(text: str) -> None:
    """Progress goes to standard error; standard output has the functions' log lines and nothing else."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The console at `/`: its files, once it is built, and the building of it beside the gateway."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from local.console_build import BUILT, for_build, is_built
from local.console_files import INDEX, KINDS, kept, policy
from local.pages import Page, safe_headers

_OFF: Final = "It is left out: CONSOLE=off."
_BUILDING: Final = "It is being built. Reload this page in a minute."


class Console:
    """What is served of it, and why it isn't where it isn't."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}
        self.note = _OFF
        """For whoever asks for it while it can't be served."""

    @property
    def is_served(self) -> bool:
        return bool(self._pages)

    def page(self, path: str) -> Page | None:
        """One of its files, by the path of a request."""
        return self._pages.get(path)

    def open(self, folder: Path = BUILT) -> None:
        """Serve what was built. The files are kept in memory: a build that replaces them changes none of this."""
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix in KINDS]
        sent = policy()
        pages = {f"/{name}": _page(folder, name, sent) for name in names}
        pages["/"] = pages[f"/{INDEX}"]
        self._pages = pages

    async def build(self, say: Callable[[str], None], address: str) -> None:
        """Serve it, built first where it isn't yet. Whatever goes wrong is said, and the gateway goes on without it.

        :param say: takes a line of progress
        :param address: where it will be
        """
        if await asyncio.to_thread(is_built):
            self.open()
            return
        self.note = _BUILDING
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "local.console_build"),
            cwd=BUILT.parent.parent,
            env=for_build(os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        say("building it, once, beside what is served; CONSOLE=off leaves it out")
        try:
            last = ""
            assert process.stdout is not None  # noqa: S101 - a pipe, see above
            async for line in process.stdout:
                last = line.decode(errors="replace").strip()
            if await process.wait() == 0:
                self.open()
                say(f"ready: {address}")
            else:
                self.note = f"It can't be built on this machine: {last}"
                say(f"left out, since it can't be built here ({last})")
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With all that it started; it removes its folder."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _page(folder: Path, name: str, sent: str) -> Page:
    """:param sent: the `Content-Security-Policy`"""
    file = folder / name
    body = file.read_bytes()
    own = [
        (b"content-type", KINDS[file.suffix].encode()),
        (b"content-length", b"%d" % len(body)),
    ]
    return Page(200, [*safe_headers(sent, kept(name)), *own], body)

"""Rules of the contract broken on purpose, each in one place, to see that a test notices.

`catalogue.py` lists them, `plugin.py` breaks one for a run of pytest; `tests/integration/test_mutations.py` runs them.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psycopg


@dataclass(frozen=True)
class Mutation:
    """One thing that is done wrongly."""

    name: str
    rule: int
    """Of the contract's section 5, the rules about money."""
    breaks: str
    target: str
    """A function of the database by its name, or a module of the layer (`fusewire.…`)."""
    edits: tuple[tuple[str, str], ...]
    """A text of the target, there exactly once, and what takes its place."""
    caught_by: str
    """The test that has to fail, as pytest names it, from `tests/` on."""

    @property
    def in_database(self) -> bool:
        return not self.target.startswith("fusewire.")

    def edited(self, source: str) -> str:
        """
        :raises ValueError: when a text is not there exactly once: the code has changed, and the mutation has to follow
        """
        for old, new in self.edits:
            if (found := source.count(old)) != 1:
                raise ValueError(f"{self.name}: {found} times in {self.target}: {old!r}")
            source = source.replace(old, new)
        return source


def source_of(mutation: Mutation, database_url: str) -> str:
    """The target as it is: the definition that the database holds, or the module's file."""
    if not mutation.in_database:
        return _file_of(mutation.target).read_text(encoding="utf-8")
    with psycopg.connect(database_url) as connection:
        [(definition,)] = connection.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s AND pronamespace = 'public'::regnamespace",
            (mutation.target,),
        ).fetchall()
    return str(definition)


def break_function(mutation: Mutation, database_url: str) -> None:
    """Replace the database's function by the broken one."""
    broken = mutation.edited(source_of(mutation, database_url))
    with psycopg.connect(database_url) as connection:
        connection.execute(broken.encode())


def break_module(mutation: Mutation) -> None:
    """Have this process know the broken module alone; whoever imports it later gets it."""
    file = _file_of(mutation.target)
    code = compile(mutation.edited(file.read_text(encoding="utf-8")), file, "exec")
    spec = importlib.util.spec_from_file_location(mutation.target, file)
    assert spec is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    parent, _, name = mutation.target.rpartition(".")
    sys.modules[mutation.target] = module
    setattr(sys.modules[parent], name, module)
    exec(code, module.__dict__)  # noqa: S102 - our own module, but for the text that was replaced


def _file_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)

"""Each file as it has to be."""

import re
from pathlib import Path
from typing import Final

from scripts.docs.api_events import with_events
from scripts.docs.handlers import handled
from scripts.docs.requests_table import requests_table
from scripts.docs.samples import EVENTS, with_samples
from scripts.docs.settings import with_blocks, with_parameters, with_rows

PROJECT: Final = Path(__file__).resolve().parents[2]
_PROVIDERS: Final = PROJECT / "docs/providers.md"
_ENGLISH: Final = PROJECT / "docs/operations.md"
_JAPANESE: Final = PROJECT / "docs/operations.ja.md"
_TEMPLATE: Final = PROJECT / "infra/template.yaml"
_TABLE: Final = re.compile(r"(?<=<!-- made by make docs -->\n)\| field .*?(?=\n\n)", re.DOTALL)


def made() -> dict[Path, str]:
    """The documents, the template and the samples, with what is made from providers and routes put right."""
    routes = handled()
    samples = with_samples({file.stem: _read(file) for file in EVENTS.glob("*.json")}, routes)
    return {
        _PROVIDERS: _with_table(with_blocks(_read(_PROVIDERS))),
        _ENGLISH: with_rows(_read(_ENGLISH), "en"),
        _JAPANESE: with_rows(_read(_JAPANESE), "ja"),
        _TEMPLATE: with_events(with_parameters(_read(_TEMPLATE)), routes),
        **{EVENTS / f"{name}.json": text for name, text in samples.items()},
    }


def _with_table(document: str) -> str:
    text, count = _TABLE.subn(lambda _: requests_table(), document)
    if count != 1:
        raise ValueError("docs/providers.md has no table of requests below its mark")
    return text


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")

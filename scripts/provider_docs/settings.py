"""A provider's variables in the manuals, in docs/providers.md and in the template: what is missing there is added."""

import re
from collections.abc import Iterator
from typing import Final

from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from scripts.provider_docs.mapping import ids, provider

_LAST_ROW: Final = re.compile(r"^\| (?:`[A-Z]+_KEY_EXPIRES_ON`(?:, |、)?)+ \|", re.MULTILINE)
_BESIDE_TERRAFORM: Final = "AWS_REGION"
"""Lambda's own."""
_WORDS: Final = {
    "en": {"join": ", ", "key": "key", "model": "a model's name", "models": "its models", "local": "{}, local"},
    "ja": {"join": "、", "key": "キー", "model": "モデル名", "models": "モデル", "local": "{} (ローカル)"},
}
_BLOCKS_END: Final = "## Requests\n"


def title(asked: AIProvider) -> str:
    """What the vendor is called: its class's name without `Provider`."""
    return type(asked).__name__.removesuffix("Provider")


# --- the manuals -------------------------------------------------------------------------------------------------


def with_rows(manual: str, language: str) -> str:
    """The manual with a row for each variable that has none, and the last row with every provider's expiry."""
    words = _WORDS[language]
    found = _LAST_ROW.search(manual)
    if found is None:
        raise ValueError("the manual has no row of <PROVIDER>_KEY_EXPIRES_ON")
    rows = "".join(f"{row}\n" for name in ids() for row in _rows(provider(name), manual, language))
    last = words["join"].join(f"`{name.upper()}_KEY_EXPIRES_ON`" for name in ids())
    return f"{manual[: found.start()]}{rows}| {last} |{manual[found.end() :]}"


def _rows(asked: AIProvider, manual: str, language: str) -> Iterator[str]:
    words, names = _WORDS[language], asked.variables
    missing = [name for name in names.names() if f"`{name}`" not in manual]
    models = [name for name in (names.sota, names.cost_effective, names.embedding) if name in missing]
    what = words["local"].format(title(asked)) if asked.local else title(asked)
    for name in missing:
        if name not in models:
            default = getattr(asked, "default_base_url", None) if name == names.endpoint else None
            kind = words["key"] if name == names.credential else "URL" if name == names.endpoint else "—"
            yield f"| `{name}` | {f'`{default}`' if default else '—'} | {kind} | {what} |"
    if models:
        joined = words["join"].join(f"`{name}`" for name in dict.fromkeys(models))
        yield f"| {joined} | — | {words['model']} | {words['models']} |"


# --- docs/providers.md -------------------------------------------------------------------------------------------


def with_blocks(document: str) -> str:
    """The document with an `.env` block for each provider that has none."""
    head, end, rest = document.partition(_BLOCKS_END)
    if not end:
        raise ValueError(f"docs/providers.md has no heading {_BLOCKS_END.strip()}")
    return head + "".join(_block(provider(name)) for name in ids() if not _is_shown(provider(name), head)) + end + rest


def _is_shown(asked: AIProvider, text: str) -> bool:
    return any(f"\n{name}=" in text for name in asked.variables.names())


def _block(asked: AIProvider) -> str:
    names = asked.variables
    values: dict[str | None, str] = {names.endpoint: "http://localhost:8001", names.credential: "a-key"}
    if getattr(asked, "default_base_url", None):
        del values[names.endpoint]
    lines = [f"{name}={value}" for name, value in values.items() if name] + [f"{names.sota}=a-model"]
    if not asked.local:
        lines.append(f'AI_PRICE_OVERRIDES={{"{asked.id}/*": {{"input_mtok": 1, "output_mtok": 4}}}}')
    kind = ", which speaks OpenAI's protocol" if isinstance(asked, OpenAICompatibleProvider) else ""
    text = "\n".join(lines)
    return f"**{title(asked)}**{kind}{', local' if asked.local else ''}.\n\n```dotenv\n{text}\n```\n\n"


# --- infra/template.yaml -----------------------------------------------------------------------------------------

_PARAMETERS_END: Final = "  CorsOrigins:\n    Type: String\n"
_ENVIRONMENT_END: Final = "        CORS_ORIGINS: !Ref CorsOrigins\n"


def with_parameters(template: str) -> str:
    """The template with a parameter and a variable for each setting that has none; credentials are in a secret."""
    for end in (_PARAMETERS_END, _ENVIRONMENT_END):
        if template.count(end) != 1:
            raise ValueError(f"infra/template.yaml must have once: {end.strip()}")
    missing = [name for name in _set_by_template() if f"\n        {name}: " not in template]
    parameters = "".join(f'  {_parameter(name)}:\n    Type: String\n    Default: ""\n' for name in missing)
    variables = "".join(f"        {name}: !Ref {_parameter(name)}\n" for name in missing)
    return template.replace(_PARAMETERS_END, parameters + _PARAMETERS_END).replace(
        _ENVIRONMENT_END, variables + _ENVIRONMENT_END
    )


def _set_by_template() -> Iterator[str]:
    for names in (provider(name).variables for name in ids()):
        yield from (name for name in names.names() if name not in (names.credential, _BESIDE_TERRAFORM))
    yield from (f"{name.upper()}_KEY_EXPIRES_ON" for name in ids())


def _parameter(variable: str) -> str:
    return "".join(word.capitalize() for word in variable.split("_"))

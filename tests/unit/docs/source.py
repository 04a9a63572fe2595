"""What the code itself says that an operator can set and see: variables, log events, error codes."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cli.api import DEFAULT_URL
from fusewire import errors
from fusewire.ai.counting import TEMPLATE_TOKENS
from fusewire.ai.registry import Registry
from fusewire.config import Settings, load_settings
from fusewire.http.headers import error_headers
from local.invocation import InvocationError
from tests.support.documents import PROJECT

UNSET: Final = "—"
_BOUNDS: Final = ("gt", "ge", "le")
_EMITTERS: Final = {"event", "_log", "announce_reset", "info"}
_RETRY: Final = {None: UNSET, True: "true", False: "false"}


def _files() -> Iterator[Path]:
    for folder in ("layers/core/python/fusewire", "functions", "local"):
        yield from sorted((PROJECT / folder).rglob("*.py"))


def _calls(*files: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call, by the last part of the called name."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield name, node


def _constants(node: ast.AST) -> list[str]:
    """The strings that an expression may be: one, or both of a conditional."""
    if isinstance(node, ast.IfExp):
        return [*_constants(node.body), *_constants(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


# --- settings ----------------------------------------------------------------------------------------------------


def variables() -> dict[str, str]:
    """Every variable that can be set, with its default as the manual writes it."""
    return _of_settings() | _of_providers() | _of_the_laptop() | _of_the_command_line()


def _of_settings() -> dict[str, str]:
    fields = {name: field for name, field in Settings.model_fields.items() if name != "environment"}
    return {name.upper(): _shown(field.default) for name, field in fields.items()}


def _shown(default: object) -> str:
    if default is None or default == ():
        return UNSET
    if isinstance(default, tuple):
        return ",".join(default)
    return str(int(default)) if isinstance(default, float) and default.is_integer() else str(default)


def _of_providers() -> dict[str, str]:
    registry = Registry(load_settings({}))
    found: dict[str, str] = {}
    for name in registry.ids():
        provider = registry.get(name)
        names = provider.variables
        for variable in names.names():
            base_url = getattr(provider, "default_base_url", None)
            found[variable] = base_url if base_url and variable == names.endpoint else UNSET
            if variable == names.template_tokens:
                found[variable] = str(TEMPLATE_TOKENS)
        if usual := provider.usual_models:
            models = {
                names.sota: usual.sota,
                names.cost_effective: usual.cost_effective,
                names.embedding: usual.embedding,
            }
            found |= {variable: model for variable, model in models.items() if variable and model}
        found[f"{name.upper()}_KEY_EXPIRES_ON"] = UNSET
    return found


def _of_the_laptop() -> dict[str, str]:
    found: dict[str, str] = {}
    for called, call in _calls(PROJECT / "local/environment.py"):
        if called == "_number":
            name, default = call.args[1], call.args[2]
        elif called in ("get", "pop") and len(call.args) == 2:
            name, default = call.args
        else:
            continue
        if isinstance(default, ast.Constant):
            found |= {each: _shown(default.value) for each in _constants(name)}
    return found


def _of_the_command_line() -> dict[str, str]:
    calls = _calls(PROJECT / "cli/api.py")
    names = [
        name for called, call in calls if called == "get" and len(call.args) == 2 for name in _constants(call.args[0])
    ]
    return {name: DEFAULT_URL if name.endswith("_URL") else UNSET for name in names}


def limits() -> dict[str, list[str]]:
    """The numbers and words that bound a variable's value, as the manual must mention them."""
    found: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        bounds = [getattr(each, key) for each in field.metadata for key in _BOUNDS if hasattr(each, key)]
        words = [word for word in getattr(field.annotation, "__args__", ()) if isinstance(word, str)]
        found[name.upper()] = [str(each) for each in (*bounds, *words)]
    for called, call in _calls(PROJECT / "local/environment.py"):
        if called == "_number":
            [name] = _constants(call.args[1])
            low, high = (ast.literal_eval(call.args[3]), call.args[4])
            found[name] = [str(low)] + ([str(high.value)] if isinstance(high, ast.Constant) else [])
    return found


# --- log events --------------------------------------------------------------------------------------------------


def events() -> dict[str, set[str]]:
    """Every event that the code logs, with its levels.

    :raises AssertionError: for one whose name can't be read from the code
    """
    found: dict[str, set[str]] = {}
    for name, levels in _emitted():
        found.setdefault(name, set()).update(levels)
    return found


def _emitted() -> Iterator[tuple[str, set[str]]]:
    for called, call in _calls(*_files()):
        if called not in _EMITTERS or not call.args:
            continue
        name, levels = call.args[0], _levels(call)
        names = _constants(name)
        if isinstance(name, ast.JoinedStr):
            assert ast.unparse(name) == "f'gateway.{error.code}'", ast.unparse(name)
            names = [f"gateway.{code}" for code in invocation_codes()]
        # Inside an emitter the name is its parameter: the callers are here as well.
        assert names or ast.unparse(name) in ("event", "name", "error"), f"line {name.lineno}: {ast.unparse(name)}"
        yield from zip(names, levels if len(levels) == len(names) else [set().union(*levels)] * len(names), strict=True)
    report = PROJECT / "layers/core/python/fusewire/runtime/report.py"
    for node in ast.walk(ast.parse(report.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):  # the runtime imports nothing of ours, so it writes its line itself
            line = {_constants(key)[0]: value for key, value in zip(node.keys, node.values, strict=True) if key}
            if "event" in line:
                yield _constants(line["event"])[0], set(_constants(line["level"]))


def _levels(call: ast.Call) -> list[set[str]]:
    if len(call.args) < 2 or "logging" not in ast.unparse(call.args[1]):
        return [{"INFO"}]
    level = call.args[1]
    branches = [level.body, level.orelse] if isinstance(level, ast.IfExp) else [level]
    return [{ast.unparse(branch).removeprefix("logging.")} for branch in branches]


def fields() -> set[str]:
    """The fields that some line has, beyond those that all have."""
    found = {"request_id", "error_type", "location", "message"}
    for called, call in _calls(*_files()):
        if called in _EMITTERS - {"announce_reset", "info"}:
            found |= {keyword.arg for keyword in call.keywords if keyword.arg}
    return found | {"timestamp", "level", "event", "service"}


# --- errors ------------------------------------------------------------------------------------------------------


def error_codes() -> dict[str, tuple[str, str, str]]:
    """code -> (status, exception, `x-should-retry`), for every error of the tree."""
    found = {
        error.code: (str(error.status), error.__name__, _RETRY[error.should_retry])
        for error in _tree(errors.FusewireError)
    }
    exhausted = errors.AllProvidersFailedError
    found[exhausted.code] = (str(exhausted.status), exhausted.__name__, error_headers(exhausted([]))["x-should-retry"])
    return found


def _tree(root: type[errors.FusewireError]) -> Iterator[type[errors.FusewireError]]:
    yield root
    for each in root.__subclasses__():
        if each.__module__ == root.__module__:  # what callers see is in one module
            yield from _tree(each)


def invocation_codes() -> Mapping[str, str]:
    """code -> status of what the platform itself answers when a function doesn't."""
    kinds: list[type[InvocationError]] = [InvocationError, *InvocationError.__subclasses__()]
    return {kind.code: str(kind.status) for kind in kinds}


def other_codes() -> set[str]:
    """Codes that no exception of the tree carries: of streams, of unknown routes, of the gateway."""
    found = set(invocation_codes())
    for called, call in _calls(*_files()):
        place = {"_refuse": 2, "_error": 1, "_RefusedError": 1, "_hang_up": 1}.get(called)
        if place is not None and len(call.args) > place:
            found |= set(_constants(call.args[place]))
    for called, call in _calls(PROJECT / "layers/core/python/fusewire/http/app.py"):
        if called == "openai_error":
            found |= {code for each in call.keywords if each.arg == "code" for code in _constants(each.value)}
    return found

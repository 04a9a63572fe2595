"""The house's rules, held by reading the code: where imports may point, where the environment is read, and that a
handler is a page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers/core/python"
HANDLERS = sorted((ROOT / "functions").glob("*/app.py"))
MODULES = {
    ".".join(file.relative_to(LAYER).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((LAYER / "fusewire").rglob("*.py"))
}
TOP_LEVEL = {name for name in MODULES if name.count(".") == 1}
VENDOR_SDKS = {"openai", "anthropic", "boto3", "botocore", "google", "httpx", "httpx2", "genai_prices"}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what only the type checker sees is no import."""
    for node in ast.iter_child_nodes(tree):
        if not is_type_checking(node):
            yield node
            yield from nodes(node)


def imports(file: Path) -> set[str]:
    found = set()
    for node in nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            module = node.module or ""
            found |= {f"{module}.{n.name}" if f"{module}.{n.name}" in MODULES else module for n in node.names}
    return found


def is_within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


# Who must not know whom. The arrows: functions -> http -> ai.router -> (budget.ledger | ai.providers).
FORBIDDEN = {
    "fusewire.ai.providers": (
        "fusewire.budget",
        "fusewire.http",
        "fusewire.store.db",
        "fusewire.core",
        "fusewire.services",
        "fusewire.ai.attempts",
        "fusewire.ai.registry",
        "fusewire.ai.router",
        "fusewire.ai.tiers",
    ),
    "fusewire.budget": ("fusewire.ai", "fusewire.http", "fusewire.core", "fusewire.services", *VENDOR_SDKS),
    "fusewire.ai": ("fusewire.http", "fusewire.core", "fusewire.services"),
    "fusewire.http": (
        "fusewire.ai.providers",
        "fusewire.store.db",
        "fusewire.core",
        "fusewire.services",
        "psycopg",
        *VENDOR_SDKS,
    ),
    "fusewire.core": ("fusewire.ai", "fusewire.http", "fusewire.services"),
    "fusewire.http.route": ("fusewire",),
    "fusewire.http.routes": ("fusewire.ai", "fusewire.budget", "fusewire.config", "fusewire.errors", "fusewire.store"),
    "fusewire.http.paths": ("fusewire.ai", "fusewire.budget", "fusewire.config", "fusewire.errors", "fusewire.store"),
    "fusewire.http.headers": ("fusewire.http",),
    "fusewire.http.schema": ("fusewire.http",),
    "fusewire.http.admin": tuple(
        f"fusewire.http.{name}" for name in ("app", "chat", "messages", "responses", "formats")
    ),
    "fusewire.errors": tuple(sorted({*TOP_LEVEL} - {"fusewire.errors", "fusewire.rate_limit"})),
    "fusewire.rate_limit": ("fusewire",),
    "fusewire.price_overrides": ("fusewire",),
    "fusewire.runtime": (
        "fusewire.ai",
        "fusewire.budget",
        "fusewire.config",
        "fusewire.store.db",
        "fusewire.http",
        "fusewire.json",
        "fusewire.logs",
        "fusewire.core",
        "fusewire.services",
        "aws_lambda_powertools",
        "pydantic",
    ),
    "fusewire.store.db": ("fusewire.ai", "fusewire.budget", "fusewire.http", "fusewire.core", "fusewire.services"),
    "fusewire.config": (
        "fusewire.ai",
        "fusewire.budget",
        "fusewire.store",
        "fusewire.http",
        "fusewire.core",
        "fusewire.services",
    ),
    **dict.fromkeys(
        ("fusewire.logs", "fusewire.metrics", "fusewire.tracing"),
        (
            "fusewire.ai",
            "fusewire.budget",
            "fusewire.config",
            "fusewire.errors",
            "fusewire.http",
            "fusewire.core",
            "fusewire.services",
            "fusewire.store",
        ),
    ),
    "fusewire": ("functions", "local", "tests", "benchmarks", "scripts", "cli", "awslambdaric"),
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for package, strangers in FORBIDDEN.items():
        if is_within(module, package):
            wrong = sorted(name for name in imports(MODULES[module]) if is_within(name, *strangers))
            assert not wrong, f"{module} must not import {wrong}"


def test_no_imports_go_in_a_circle() -> None:
    left = {module: {name for name in imports(file) if name in MODULES} for module, file in MODULES.items()}
    # Whoever imports nothing that is left is taken out, until nobody is left, or only a circle.
    while free := [module for module, wanted in left.items() if not wanted & left.keys() - {module}]:
        for module in free:
            del left[module]
    assert not left


def test_the_rules_are_about_packages_that_exist() -> None:
    assert set(FORBIDDEN) <= MODULES.keys()


def test_the_openapi_document_is_imported_by_the_function_that_serves_it_alone() -> None:
    builder = "fusewire.http.openapi"
    users = [name for name, file in MODULES.items() if any(is_within(each, builder) for each in imports(file))]
    assert all(is_within(name, builder) for name in users)
    handlers = [file for file in HANDLERS if any(is_within(each, builder) for each in imports(file))]
    assert [file.parent.name for file in handlers] == ["health"]
    at_init = ast.parse(handlers[0].read_text()).body
    assert builder not in " ".join(ast.unparse(node) for node in at_init if isinstance(node, ast.ImportFrom))


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.parent.name)
def test_a_handler_imports_the_core_and_nothing_beneath_it(file: Path) -> None:
    beneath = (
        "fusewire.ai.providers",
        "fusewire.ai.attempts",
        "fusewire.store.db",
        "fusewire.budget.ledger",
        "functions",
    )
    wrong = sorted(name for name in imports(file) if is_within(name, *beneath, "psycopg", *VENDOR_SDKS))
    assert not wrong


@pytest.mark.parametrize("file", sorted((ROOT / "cli").glob("*.py")), ids=lambda file: file.name)
def test_the_command_line_knows_the_gateway_by_its_http_api_alone(file: Path) -> None:
    assert not [name for name in imports(file) if is_within(name, "fusewire", "functions", "local", "psycopg")]


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.parent.name)
def test_a_handler_is_a_page(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) < 80
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree), "its first line says which trigger it serves"
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "handler" in names
    assert not [node for node in tree.body if isinstance(node, ast.ClassDef)]


def test_every_function_has_a_handler() -> None:
    folders = {path.name for path in (ROOT / "functions").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {file.parent.name for file in HANDLERS}


@pytest.mark.parametrize("file", [*MODULES.values(), *HANDLERS], ids=lambda file: str(file.relative_to(ROOT)))
def test_the_environment_is_read_in_one_place(file: Path) -> None:
    if file.parent.name == "runtime" or file.name in {"config.py", "tracing.py"}:
        return  # the runtime and tracing read what Lambda sets, which are no settings
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"environ", "getenv", "putenv"}, f"{file}:{node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {name.name for name in node.names} & {"environ", "getenv"}, f"{file}:{node.lineno}"


PYTHON = sorted(
    file
    for folder in ("layers/core/python", "functions", "local", "cli", "scripts", "benchmarks", "tests")
    for file in (ROOT / folder).rglob("*.py")
)
TRACERS = ("aws_xray_sdk", "opentelemetry", "aws_lambda_powertools.tracing", "aws_lambda_powertools.Tracer")


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_tracers_sdk_is_imported(file: Path) -> None:
    """X-Ray's is out of support from February 2027 on; what takes its place comes in `fusewire.tracing` alone."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            continue
        assert not [name for name in names if is_within(name, *TRACERS)], f"{file}:{node.lineno}"


def test_no_tracers_sdk_is_locked() -> None:
    locked = {file.name: file.read_text() for file in (ROOT / "requirements").glob("*.txt")}
    # OpenTelemetry's interface comes along with others; what would record or send is its SDK.
    tracer = re.compile(r"^(?:aws-xray-sdk|opentelemetry-(?:sdk|exporter|instrumentation))\b", re.MULTILINE)
    assert not [name for name, text in locked.items() if tracer.search(text)]
    assert {"layer.txt", "run.txt"} <= locked.keys()


def test_tracing_is_a_seam() -> None:
    """The rest knows these names and no word of X-Ray: another exporter takes the place of one module."""
    seam = {"set_enabled", "begin", "attempt", "statement", "Flag", "Subsegment"}
    own = {"fusewire.tracing"}
    for module, file in MODULES.items():
        if module in own:
            continue
        text = file.read_text()
        tree = ast.parse(text)
        used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "tracing"}
        found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "fusewire.tracing"]
        used |= {name.name for node in found for name in node.names}
        assert used <= seam, module
        assert "AWS_XRAY" not in text, module
        # The runtime sets the variable for whoever traces, as AWS's own client does.
        assert "_X_AMZN_TRACE_ID" not in text or module == "fusewire.runtime.loop", module


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_has_a_docstring(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    functions = [node for node in public(tree) if isinstance(node, ast.FunctionDef)]
    assert not [node.name for node in functions if not ast.get_docstring(node)]

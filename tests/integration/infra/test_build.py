"""`sam build` without Docker, a compiler or an account: the layer for Lambda's arm64, and the functions."""

import io
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from local.template import read_template
from tests.integration.infra.sam import PROJECT, TEMPLATE, done, run

_MAX_UNZIPPED: Final = 250 * 1024 * 1024  # Lambda's limit for a function and its layers together
_MAX_ZIPPED: Final = 50 * 1024 * 1024
_MAGIC_313: Final = 3571
_UNCHECKED_HASH: Final = 0b01
_ARM64: Final = 183


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    done("sam", "build", "--template", str(TEMPLATE), "--build-dir", str(folder / "build"), "--build-in-source")
    return folder / "build"


@pytest.fixture(scope="module")
def layer(built: Path) -> Path:
    return built / "CoreLayer"


def test_each_function_is_its_handler_and_nothing_else(built: Path) -> None:
    for function in read_template(TEMPLATE, {}).functions:
        name = "".join(word.title() for word in function.name.split("_")) + "Function"
        files = {file.name for file in (built / name).rglob("*") if file.is_file()}
        assert files == {"app.py"}, name


def test_the_layer_has_what_is_locked_and_ours(layer: Path) -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (PROJECT / "requirements/layer.txt").read_text(), re.MULTILINE))
    distributions = (layer / "python").glob("*.dist-info")
    there = {re.sub(r"[-_.]+", "-", each.name.partition("-")[0]).lower() for each in distributions}
    assert there <= locked
    # Behind a marker is what other platforms and Pythons need.
    elsewhere = re.findall(r"^([\w.-]+)==\S+ ;", (PROJECT / "requirements/layer.txt").read_text(), re.MULTILINE)
    assert locked - there <= set(elsewhere)
    source = PROJECT / "layers/core/python/fusewire"
    ours = {file.relative_to(source) for file in _sources(source)}
    assert {file.relative_to(layer / "python/fusewire") for file in _sources(layer / "python/fusewire")} == ours
    assert (layer / "bin/stream").stat().st_mode & 0o111
    assert (layer / "certs/rds.pem").read_text() == (PROJECT / "layers/core/certs/rds.pem").read_text()


def _sources(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts}


def test_every_binary_is_for_lambdas_machine_and_python(layer: Path) -> None:
    libraries = [file for file in (layer / "python").rglob("*.so*") if file.is_file()]
    assert len(libraries) > 10
    for file in libraries:
        head = file.read_bytes()[:20]
        assert head[:4] == b"\x7fELF", file
        assert struct.unpack("<H", head[18:20]) == (_ARM64,), file
        if tag := re.search(r"\.cpython-(\d+)", file.name):
            assert tag[1] == "313", file
    assert any("psycopg" in str(file) for file in libraries)


def test_it_fits_lambdas_limits(layer: Path) -> None:
    files = [file for file in layer.rglob("*") if file.is_file()]
    unzipped = sum(file.stat().st_size for file in files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            archive.write(file, file.relative_to(layer))
    zipped = len(packed.getvalue())
    sys.stdout.write(f"layer: {unzipped / 1e6:.0f} MB unzipped, {zipped / 1e6:.0f} MB zipped\n")
    assert unzipped < 0.8 * _MAX_UNZIPPED
    assert zipped < _MAX_ZIPPED


def test_nothing_in_the_layer_knows_where_it_was_built(layer: Path) -> None:
    """A build's hash is the same in every checkout; installers' records hold hashes of scripts with its path."""
    assert not list((layer / "python").glob("*.dist-info/RECORD"))
    for file in layer.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(PROJECT).encode() not in content and str(layer).encode() not in content, file


def test_its_bytecode_is_lambdas_and_is_believed(layer: Path) -> None:
    """All of it, or, where no Python 3.13 can be had, none: never some other Python's."""
    compiled = list((layer / "python").rglob("*.pyc"))
    if not compiled:
        output = run(str(PROJECT / "layers/core/compile"), "uv", "3.13", "/nowhere")
        assert "the layer has no bytecode" in output.stderr
        return
    assert len(compiled) >= len([f for f in (layer / "python/fusewire").rglob("*.py")])
    for file in compiled:
        magic, flags = struct.unpack("<HxxI", file.read_bytes()[:8])
        assert (magic, flags) == (_MAGIC_313, _UNCHECKED_HASH), file
    one = (layer / "python/fusewire/store/__pycache__/db.cpython-313.pyc").read_bytes()
    assert b"/opt/python/fusewire/store/db.py" in one
    assert str(layer).encode() not in one


def test_without_uv_it_says_what_to_do(tmp_path: Path) -> None:
    makefile = str(PROJECT / "layers/core/Makefile")
    output = run("make", "-f", makefile, "build-CoreLayer", "UV=no-such-uv", f"ARTIFACTS_DIR={tmp_path}")
    assert output.returncode != 0
    assert "pip install uv" in output.stderr


def test_what_no_call_reaches_is_left_out(layer: Path) -> None:
    for unused in ("boto3/data", "pyasn1", "regex", "aws_lambda_powertools/utilities/parser"):
        assert not (layer / "python" / unused).exists()
    # google-auth has RSA by cryptography; without it, it would look for what is left out.
    assert (layer / "python/cryptography").is_dir()
    assert not (layer / "python/rsa").exists()


def test_every_service_that_is_called_is_still_described(layer: Path) -> None:
    data = layer / "python/botocore/data"
    described = {each.name for each in data.iterdir() if each.is_dir()}
    assert described == {"bedrock-runtime", "rds", "secretsmanager", "sts"}
    called = set()
    for file in _sources(PROJECT / "layers/core/python/fusewire"):
        if file.suffix == ".py":
            called |= set(re.findall(r"\.client\(\s*\"([a-z-]+)\"", file.read_text()))
    assert called <= {"bedrock-runtime", "rds"}

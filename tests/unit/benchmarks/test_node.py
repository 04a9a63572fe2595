"""The peers on Node: locked, hashed, and left out where there is no Node."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.node import NotInstalledError, Packages, ready_packages

_PORTKEY = Path(__file__).resolve().parents[3] / "benchmarks" / "requirements" / "portkey"
_NPM = """#!/bin/sh
echo "$@" > "{result}"
[ -f package-lock.json ] || exit 1
mkdir -p node_modules/one && cp package-lock.json node_modules/.package-lock.json
echo '{{"version": "1.2.3"}}' > node_modules/one/package.json
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "peer"
    folder.mkdir()
    (folder / "package.json").write_text("{}")
    (folder / "package-lock.json").write_text('{"packages": {"node_modules/one": {}}}')
    return folder


def _programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Nothing else is on the PATH but the shell's own."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for tool in ("mkdir", "cp"):
        (folder / tool).symlink_to(next(p for p in (Path(f"/bin/{tool}"), Path(f"/usr/bin/{tool}")) if p.exists()))
    monkeypatch.setenv("PATH", str(folder))


def test_portkey_is_pinned_and_hashed_and_comes_from_whichever_registry_is_set() -> None:
    wanted = json.loads((_PORTKEY / "package.json").read_text(encoding="utf-8"))
    locked = json.loads((_PORTKEY / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert locked.pop("")["dependencies"] == wanted["dependencies"]
    assert len(locked) > 50
    for name, package in locked.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
    for name, number in {**wanted["dependencies"], **wanted["overrides"]}.items():
        assert locked[f"node_modules/{name}"]["version"] == number


def test_packages_are_installed_once_for_each_lock_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "told"
    _programs(tmp_path / "bin", monkeypatch, node="#!/bin/sh\necho v20.1.0\n", npm=_NPM.format(result=result))
    packages = ready_packages(project, tmp_path / "made")
    assert result.read_text().split()[:3] == ["ci", "--omit=dev", "--ignore-scripts"]
    assert packages.version("one") == "1.2.3"
    assert packages.node_version() == "20.1.0"
    assert packages.size() == (0.0, 1)
    result.unlink()
    assert ready_packages(project, tmp_path / "made") == packages
    assert not result.exists()
    (project / "package-lock.json").write_text('{"packages": {}}')
    assert ready_packages(project, tmp_path / "made").modules != packages.modules
    assert capsys.readouterr().out.count("Installing peer") == 2


def test_without_node_it_is_left_out(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _programs(tmp_path / "bin", monkeypatch, npm="#!/bin/sh\n")
    with pytest.raises(NotInstalledError, match="needs Node and npm"):
        ready_packages(project, tmp_path / "made")


def test_what_npm_cannot_install_is_left_out_and_tried_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "#!/bin/sh\necho 'npm warn old' >&2\necho 'npm error code EINTEGRITY' >&2\nexit 1\n"
    _programs(tmp_path / "bin", monkeypatch, node="#!/bin/sh\n", npm=broken)
    for _ in range(2):
        with pytest.raises(NotInstalledError, match="npm can't install it: npm error code EINTEGRITY"):
            ready_packages(project, tmp_path / "made")


def test_a_size_is_that_of_the_files(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / ".package-lock.json").write_text('{"packages": {"a": {}, "b": {}}}')
    (modules / "big.js").write_bytes(b"x" * 1_500_000)
    os.symlink(modules / "big.js", modules / "link.js")
    assert Packages(Path("node"), modules).size() == (1.5, 2)

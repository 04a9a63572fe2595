"""Environments of the peers' own, from pinned and hashed requirements."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import BenchmarkError
from benchmarks.environment import installed, pinned_names, ready_environment, site_packages, version

_REQUIREMENTS = Path(__file__).resolve().parents[3] / "benchmarks" / "requirements"


def test_every_peer_is_pinned_and_hashed() -> None:
    compiled = (_REQUIREMENTS / "litellm.txt").read_text(encoding="utf-8")
    wanted = re.search(r"^litellm\[proxy\]==(\S+)$", (_REQUIREMENTS / "litellm.in").read_text(), re.MULTILINE)
    assert wanted is not None
    assert re.search(rf"^litellm==(?:{re.escape(wanted[1])}) ", compiled, re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", compiled.strip())
    assert len(blocks) > 50
    assert all(re.match(r"[a-z0-9._-]+==", block) and "--hash=sha256:" in block for block in blocks)
    assert "//" not in compiled


def test_names_are_read_whatever_their_spelling(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text(
        "Some_Thing==1.0 \\\n    --hash=sha256:00\nother.thing==2 ; python_version < '3' \\\n    --hash=x\n"
    )
    assert pinned_names(file) == {"some-thing", "other-thing"}


def test_what_is_installed_is_counted() -> None:
    site = site_packages(Path(sys.executable))
    whole, some = installed(site), installed(site, ["Pydantic", "pydantic_core"])
    assert some.distributions == 2
    assert 1 < some.megabytes < whole.megabytes
    assert whole.distributions > 20
    assert installed(site, ["there-is-none"]).distributions == 0


def test_versions_are_told() -> None:
    site = site_packages(Path(sys.executable))
    assert version(site, "pytest") == pytest.__version__
    assert version(site, "there-is-none") == "?"


def test_an_environment_is_made_once_for_each_requirements_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requirements = tmp_path / "nothing.txt"
    requirements.write_text("# nothing\n")
    python = ready_environment(requirements, tmp_path / "made")
    assert installed(site_packages(python)).distributions == 0
    assert "Installing nothing" in capsys.readouterr().out
    assert ready_environment(requirements, tmp_path / "made") == python
    assert capsys.readouterr().out == ""


def test_requirements_that_cannot_be_installed_are_told(tmp_path: Path) -> None:
    requirements = tmp_path / "broken.txt"
    requirements.write_text("./missing-1.0-py3-none-any.whl --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(BenchmarkError, match=r"broken can't be installed: ERROR: .*missing"):
        ready_environment(requirements, tmp_path)
    assert not list(tmp_path.glob("*/complete"))


def test_a_folder_without_packages_is_no_environment(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no virtual environment"):
        site_packages(tmp_path / "bin" / "python")

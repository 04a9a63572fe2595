"""`make setup`: what is whole is kept, what was interrupted is made anew, and a failure is one line of what to do."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import install
from tests.support.gateway import PROJECT, eventually

_SCRIPT = PROJECT / "scripts" / "install.py"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `requirements/tiny.txt`, which names one wheel with its hash."""
    monkeypatch.chdir(tmp_path)
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "WORD = 'here'\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    _require(tmp_path, wheel, hashlib.sha256(wheel.read_bytes()).hexdigest())
    return tmp_path


def _require(checkout: Path, wheel: Path, digest: str) -> None:
    (checkout / "requirements").mkdir(exist_ok=True)
    (checkout / "requirements" / "tiny.txt").write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n")


def _word(checkout: Path) -> str:
    python = str(checkout / ".venv" / "bin" / "python")
    output = subprocess.run([python, "-c", "import tiny; print(tiny.WORD)"], capture_output=True, text=True, check=True)  # noqa: S603
    return output.stdout.strip()


def test_an_environment_that_is_whole_is_kept(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["tiny"]) == 0
    assert _word(checkout) == "here"
    message = capsys.readouterr().err.splitlines()
    assert message[0] == "Installing the locked requirements into .venv, once. The larger ones:"
    assert message[1] == "Unpacking 1 packages ..."
    assert message[2].startswith("Installed: ") and " MB on disk, in " in message[2]
    (checkout / ".venv" / "mark").touch()
    assert install.main(["tiny"]) == 0
    assert (checkout / ".venv" / "mark").exists()


@pytest.mark.parametrize("left", ["unfinished", "no pip", "no Python"])
def test_one_that_an_earlier_try_left_is_made_anew(
    checkout: Path, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    environment = checkout / ".venv"
    # As Debian's Python without python3-venv leaves it, and an install that was killed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)  # noqa: S603
    if left == "unfinished":
        shutil.rmtree(environment)
        assert install.main(["tiny"]) == 0
        (environment / "unfinished").touch()
    elif left == "no Python":
        (environment / "bin" / "python").unlink()
    (environment / "mark").touch()
    assert install.main(["tiny"]) == 0
    assert ".venv isn't complete: it is made anew." in capsys.readouterr().err
    assert not (environment / "mark").exists()
    assert not (environment / "unfinished").exists()
    assert _word(checkout) == "here"


def test_a_failed_install_is_one_line_and_never_taken_for_whole(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _require(checkout, checkout / "tiny-1.0-py3-none-any.whl", "0" * 64)
    assert install.main(["tiny"]) == 1
    message = capsys.readouterr().err
    assert message.splitlines()[-1].startswith("fusewire can't be set up. requirements/tiny.txt can't be installed: ")
    assert (checkout / ".venv" / "unfinished").exists()


def test_ctrl_c_while_it_installs(checkout: Path) -> None:
    os.mkfifo(checkout / "requirements" / "slow.txt")  # pip waits for what never comes
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, str(_SCRIPT), "slow"], cwd=checkout, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        eventually(lambda: (checkout / ".venv" / "unfinished").exists(), 60)
        os.killpg(process.pid, signal.SIGINT)
        _, result = process.communicate(timeout=30)
    assert process.returncode == 130
    assert result.endswith("\nInterrupted; the next try begins anew.\n")
    assert "Traceback" not in result
    assert (checkout / ".venv" / "unfinished").exists()


def test_without_ensurepip_it_says_what_to_install(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    for found, result in (
        ("/usr/bin/apt-get", f"as root, `apt install python3.{sys.version_info[1]}-venv`"),
        (None, "`ensurepip`"),
    ):
        monkeypatch.setattr(shutil, "which", lambda name, found=found: found)
        assert install.main(["tiny"]) == 1
        [line] = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("fusewire can't be set up. This Python has no venv: ")
        assert result in line
    assert not (checkout / ".venv").exists()


def test_a_venv_that_fails_half_way_is_removed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = checkout / "python"
    broken.write_text("#!/bin/sh\nmkdir -p .venv/bin\necho Error: no space left\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert install.main(["tiny"]) == 1
    assert capsys.readouterr().err.strip().endswith(f"`{broken} -m venv .venv` fails: Error: no space left")
    assert not (checkout / ".venv").exists()


def test_a_link_to_an_environment_elsewhere_is_not_removed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "elsewhere").mkdir()
    (checkout / ".venv").symlink_to("elsewhere")
    assert install.main(["tiny"]) == 1
    assert ".venv is a link to an environment elsewhere" in capsys.readouterr().err
    assert (checkout / "elsewhere").is_dir()

"""The tests run without the shell's keys and modes."""

import os
import subprocess
import sys

from local.spelling import settings_names
from tests.conftest import without_settings
from tests.support.gateway import PROJECT


def test_no_setting_of_the_shell_is_left() -> None:
    assert not settings_names() & os.environ.keys()
    assert not [name for name in os.environ if name.startswith(("AI_", "OPENAI_", "ANTHROPIC_", "AZURE_", "AWS_"))]


def test_what_is_no_setting_stays() -> None:
    environ = {"PATH": "p", "FUSEWIRE_PROVE": "1", "TEST_DATABASE_URL": "t", "HTTPS_PROXY": "h", "AI_MODE": "cloud"}
    without_settings(environ)
    assert environ.keys() == {"PATH", "FUSEWIRE_PROVE", "TEST_DATABASE_URL", "HTTPS_PROXY"}


def test_it_holds_for_whoever_starts_them() -> None:
    shell = {"OPENAI_API_KEY": "sk-x", "AI_MODE": "cloud", "DATABASE_URL": "host=x", "AWS_PROFILE": "mine"}
    output = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", "-q", f"{__file__}::{test_no_setting_of_the_shell_is_left.__name__}"],
        cwd=PROJECT,
        env={**os.environ, **shell},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stdout

"""A peer that can't be there is left out with a sentence."""

from pathlib import Path

import pytest

from benchmarks import __main__
from benchmarks.node import NotInstalledError


def test_without_node_the_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(project: Path, folder: Path) -> None:
        assert (project.name, project.is_dir()) == ("portkey", True)
        raise NotInstalledError("it needs Node and npm, and this machine has none")

    monkeypatch.setattr(__main__, "ready_environment", lambda requirements, folder: tmp_path / requirements.stem)
    monkeypatch.setattr(__main__, "ready_packages", missing)
    places = __main__._installed()
    sentence = "Portkey's gateway took no part: it needs Node and npm, and this machine has none."
    assert (places.litellm, places.tensorzero) == (tmp_path / "litellm", tmp_path / "tensorzero")
    assert (places.portkey, places.missing) == (None, (sentence,))
    assert sentence in capsys.readouterr().out

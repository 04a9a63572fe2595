"""Parts of a call are timed in turn, each as often as the others."""

from benchmarks.parts import Part, by_package, measure, profile_report, report


def test_every_part_is_warmed_up_and_timed_alike() -> None:
    done: list[str] = []
    parts = [Part(name, lambda name=name: done.append(name)) for name in "ab"]  # type: ignore[misc]
    measure(parts, rounds=3)
    assert done.count("a") == done.count("b") == 100 + 3 * 40
    assert [len(part.milliseconds) for part in parts] == [120, 120]
    assert done[200:] == ["b"] * 40 + ["a"] * 40 + ["a"] * 40 + ["b"] * 40 + ["b"] * 40 + ["a"] * 40


def test_the_table_tells_medians() -> None:
    part = Part("the vendor", lambda: None, milliseconds=[1.0, 9.0, 2.0], cpu=[0.25, 0.5, 0.75])
    assert report([part]).splitlines()[-1] == "| the vendor | 2.00 | 0.50 |"


def test_a_profile_is_told_by_package_and_what_is_built_in_by_who_called_it() -> None:
    ours, theirs = ("/x/fusewire/db.py", 1, "call"), ("/y/site-packages/psycopg/cursor.py", 2, "execute")
    stats = {
        ours: (1, 1, 0.5, 2.0, {}),
        theirs: (1, 1, 0.25, 1.0, {ours: (1, 1, 0.25, 1.0)}),
        ("~", 0, "<built-in>"): (3, 3, 0.75, 0.75, {ours: (1, 1, 0.25, 0.25), theirs: (2, 2, 0.5, 0.5)}),
        ("/usr/lib/python3/json/__init__.py", 3, "loads"): (1, 1, 0.5, 0.5, {ours: (1, 1, 0.5, 0.5)}),
    }
    assert by_package(stats) == {"fusewire": 0.75, "psycopg": 0.75, "Python": 0.5}
    assert profile_report({"tiny": 0.005, "psycopg": 0.25, "fusewire": 0.75}).splitlines()[2:] == [
        "| fusewire | 75% |",
        "| psycopg | 25% |",
    ]

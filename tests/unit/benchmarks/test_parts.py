"""Parts of a call are timed in turn, each as often as the others."""

from benchmarks.parts import Part, measure, report


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

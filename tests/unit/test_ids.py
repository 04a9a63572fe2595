"""Ids that grow with time."""

import time
from uuid import RFC_4122

from fusewire.ids import time_ordered_id


def test_ids_are_version_7_and_grow_with_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [time_ordered_id() for _ in range(100)]
    after = time.time_ns() // 1_000_000
    stamps = [made.int >> 80 for made in ids]
    assert all(made.version == 7 and made.variant == RFC_4122 for made in ids)
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after
    assert len(set(ids)) == 100

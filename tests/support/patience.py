"""How long a test waits for what has to happen."""

from typing import Final

PATIENCE_SECONDS: Final = 180
"""A ceiling for a machine that is busy with something else, never a measure: a test that passes doesn't wait for it."""

FOR_A_REAL_MODEL: Final = {"AI_REQUEST_TIMEOUT_SECONDS": "170", "AI_RESERVATION_TTL_SECONDS": "300"}
"""Settings of a gateway in front of the model of `make run`, which shares a busy machine's processors."""

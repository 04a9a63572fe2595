"""Reservations that have had their time, without waiting for it."""

import psycopg


def expire_reservations(database_url: str) -> None:
    """Let every reservation that is open expire now; whoever comes next settles it at its bound."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE ledger SET expires_at = clock_timestamp() WHERE status = 'reserved'")

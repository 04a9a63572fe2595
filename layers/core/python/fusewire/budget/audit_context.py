"""Who makes an audited change: what the statements and the log are told of it."""

import logging
from dataclasses import dataclass
from typing import TypedDict

from fusewire import logs


class AuditContextArgument(TypedDict):
    """Who changes something, as the statements take it."""

    actor: str
    source_ip: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditContext:
    """Who changes something, from where, in which request: for the audit."""

    actor: str
    source_ip: str | None
    request_id: str

    def argument(self) -> AuditContextArgument:
        return {"actor": self.actor, "source_ip": self.source_ip, "request_id": self.request_id}

    def log(self, action: str, **fields: object) -> None:
        """Log a change that stands in the audit now: the `audit` line."""
        logs.event("audit", logging.INFO, action=action, actor=self.actor, source_ip=self.source_ip, **fields)

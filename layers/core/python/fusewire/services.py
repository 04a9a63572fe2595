"""The composition root: what a function gets when it asks for the core, made once per execution environment.

Everything here is cheap: no connection is opened and no SDK imported before a request needs it, so a snapshot that is
taken after INIT holds neither.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from fusewire import logs
from fusewire.ai.registry import Registry
from fusewire.ai.router import Router
from fusewire.ai.tiers import Tiers
from fusewire.budget.ledger import Ledger
from fusewire.budget.pricing import PriceBook
from fusewire.config import Settings, current_settings
from fusewire.db import Database

_WARN_BEFORE_EXPIRY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Services:
    """The core under one set of settings."""

    settings: Settings
    database: Database
    registry: Registry
    tiers: Tiers
    prices: PriceBook
    ledger: Ledger
    router: Router


def assemble(settings: Settings) -> Services:
    """:raises ConfigurationError: when the settings name what doesn't exist"""
    database = Database(settings.database_url)
    registry = Registry(settings)
    tiers = Tiers(settings, registry)
    prices = PriceBook(
        overrides=settings.ai_price_overrides,
        aliases=settings.ai_price_aliases,
        local_providers={name for name in registry.ids() if registry.get(name).local},
    )
    ledger = Ledger(database, settings)
    return Services(settings, database, registry, tiers, prices, ledger, Router(settings, tiers, prices, ledger))


def warn_of_expiring_keys(services: Services) -> None:
    """Log one line for each provider's key that expires within 14 days, or has."""
    today = datetime.now(UTC).date()
    for provider in services.registry.configured().values():
        expires = provider.key_expires_on()
        if expires is not None and expires - today <= _WARN_BEFORE_EXPIRY:
            logs.event("provider.key_expiring", logging.WARNING, provider=provider.id, expires_on=expires.isoformat())


@cache
def services() -> Services:
    """This process's core, from its environment."""
    made = assemble(current_settings())
    logs.logger.setLevel(made.settings.log_level)
    warn_of_expiring_keys(made)
    return made

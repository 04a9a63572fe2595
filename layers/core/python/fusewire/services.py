"""The composition root: what a function gets when it asks for the core, made once per execution environment.

Everything here is cheap: no connection is opened, no secret read and no SDK imported before a request needs it, so a
snapshot that is taken after INIT holds none of them, but for the SDKs' modules, which a hook imports just before it.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Final

from pydantic import SecretStr
from snapshot_restore_py import register_before_snapshot  # type: ignore[import-untyped]

from fusewire import logs, metrics, tracing
from fusewire.ai.registry import Registry
from fusewire.ai.router import Router
from fusewire.ai.tiers import Tiers
from fusewire.audit import Audit
from fusewire.budget.books import Books
from fusewire.budget.ledger import Ledger
from fusewire.budget.pricing import PriceBook
from fusewire.config import ConfigurationError, Settings, current_settings, load_settings
from fusewire.credentials import SecretSettings, database_credentials
from fusewire.db import Database
from fusewire.keys import Keys

_WARN_BEFORE_EXPIRY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Vendors:
    """What depends on the vendors' keys."""

    settings: Settings
    registry: Registry
    tiers: Tiers
    prices: PriceBook
    router: Router


class Services:
    """The core under one set of settings, and under the secrets of the moment where Secrets Manager keeps some.

    The ledger and its connection outlive every change of a key: what they keep is money.
    """

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: when the settings name what doesn't exist"""
        self.database = Database(settings.database_url, database_credentials(settings))
        self.ledger = Ledger(self.database, settings)
        self.books = Books(self.database, settings)
        self.audit = Audit(self.database)
        self.keys = Keys(self.database, settings)
        self._given = settings
        self._vendors = self._assembled(settings)
        self._secrets = SecretSettings(settings.fusewire_secret_arns) if settings.fusewire_secret_arns else None

    @property
    def settings(self) -> Settings:
        """As they are known by now: before the first call without what Secrets Manager keeps."""
        return self._vendors.settings

    def secret(self, name: str) -> SecretStr | None:
        """A credential of the settings, read from Secrets Manager where it isn't known yet or may have changed.

        :raises SecretsUnavailableError: when it can't be read
        """
        return self._current().settings.secret(name)

    @property
    def registry(self) -> Registry:
        return self._current().registry

    @property
    def tiers(self) -> Tiers:
        return self._current().tiers

    @property
    def prices(self) -> PriceBook:
        return self._current().prices

    @property
    def router(self) -> Router:
        return self._current().router

    def import_sdks(self) -> None:
        """Have a snapshot hold the SDKs that calls will need: their modules, nothing that they make."""
        registry = self._vendors.registry
        for provider in map(registry.get, registry.ids()):
            if provider.has_model():
                for module in provider.sdk:
                    import_module(module)
        if self._secrets is not None or self._vendors.settings.fusewire_database_secret_arn:
            import_module("aws_lambda_powertools.utilities.parameters")

    def _assembled(self, settings: Settings) -> _Vendors:
        registry = Registry(settings)
        tiers = Tiers(settings, registry)
        prices = PriceBook(
            overrides=settings.ai_price_overrides,
            aliases=settings.ai_price_aliases,
            local_providers={name for name in registry.ids() if registry.get(name).local},
        )
        return _Vendors(settings, registry, tiers, prices, Router(settings, tiers, prices, self.ledger))

    def _current(self) -> _Vendors:
        """:raises SecretsUnavailableError: when there are secrets, and none could be read and used yet"""
        if self._secrets is not None and (found := self._secrets.changed()) is not None:
            try:
                self._vendors = self._assembled(load_settings({**self._given.environment, **found}))
            except ConfigurationError as error:
                self._secrets.refuse(str(error))
            else:
                warn_of_expiring_keys(self._vendors.registry)
        return self._vendors


def assemble(settings: Settings) -> Services:
    """:raises ConfigurationError: when the settings name what doesn't exist"""
    return Services(settings)


def warn_of_expiring_keys(registry: Registry) -> None:
    """Log one line for each provider's key that expires within 14 days, or has."""
    today = datetime.now(UTC).date()
    for provider in registry.configured.values():
        expires = provider.key_expires_on()
        if expires is not None and expires - today <= _WARN_BEFORE_EXPIRY:
            logs.event("provider.key_expiring", logging.WARNING, provider=provider.id, expires_on=expires.isoformat())


@cache
def services() -> Services:
    """This process's core, from its environment."""
    settings = current_settings()
    made = assemble(settings)
    logs.set_level(settings.log_level)
    metrics.into(settings.fusewire_metrics_namespace)
    tracing.switch(settings.fusewire_tracing == "on")
    if not settings.fusewire_secret_arns:
        warn_of_expiring_keys(made.registry)
    register_before_snapshot(made.import_sdks)
    return made

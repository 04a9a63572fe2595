"""The composition root: the core and its providers, made once per execution environment.

No SDK is imported before a request needs it, but for a snapshot, which holds the SDKs' modules: a hook imports them
just before it is taken.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Final

from fusewire import logs
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.budget.pricing import PriceBook
from fusewire.config import Settings, current_settings
from fusewire.core import Core, observe

if TYPE_CHECKING:
    from fusewire.ai.router import Router

_WARN_BEFORE_EXPIRY: Final = timedelta(days=14)


@dataclass(frozen=True)
class _Vendors:
    """What depends on the vendors' keys."""

    registry: Registry
    tiers: Tiers
    prices: PriceBook
    make_router: "Callable[[_Vendors], Router]"

    @cached_property
    def router(self) -> "Router":
        return self.make_router(self)


class Services(Core):
    """The core, and the providers under the secrets of the moment."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: when the settings name what doesn't exist"""
        super().__init__(settings)
        self._vendors = self._assembled(settings, secrets_pending=self._secrets is not None)

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
    def router(self) -> "Router":
        return self._current().router

    def import_sdks(self) -> None:
        """Have a snapshot hold the SDKs that calls will need: their modules, nothing that they make."""
        registry = self._vendors.registry
        import_module("fusewire.ai.router")
        for provider in registry.mentioned:
            if provider.has_model():
                for module in provider.sdk:
                    import_module(module)
        if self.settings.ai_responses_retention_hours:
            import_module("cryptography.hazmat.primitives.ciphers.aead")
        if self._secrets is not None or self.settings.fusewire_database_secret_arn:
            import_module("aws_lambda_powertools.utilities.parameters")

    def use(self, settings: Settings) -> None:
        self._vendors = self._assembled(settings)
        warn_of_expiring_keys(self._vendors.registry)

    def _assembled(self, settings: Settings, *, secrets_pending: bool = False) -> _Vendors:
        """:param secrets_pending: which providers are configured isn't known yet"""
        registry = Registry(settings)
        tiers = Tiers(settings, registry)
        prices = price_book(settings, registry)
        if settings.ai_price_overrides and not secrets_pending:
            # Only then, since it reads the price list.
            prices.check({name: provider.models() for name, provider in registry.configured.items()})
        on_credential_rejected = self._secrets.credential_rejected if self._secrets is not None else None

        def make_router(vendors: _Vendors) -> "Router":
            # Here, because half of the functions know the providers and call none.
            from fusewire.ai.router import Router

            return Router(settings, vendors.tiers, vendors.prices, self.ledger, on_credential_rejected)

        return _Vendors(registry, tiers, prices, make_router)

    def _current(self) -> _Vendors:
        self.refresh()
        return self._vendors


def price_book(settings: Settings, registry: Registry) -> PriceBook:
    """What models cost by these settings. The vendors' keys have no part in it, so a function without them has it too.

    :raises ConfigurationError: for two overrides or aliases of one model
    """
    return PriceBook(
        overrides=settings.ai_price_overrides,
        aliases=settings.ai_price_aliases,
        local_providers={provider.id for provider in registry.mentioned if provider.local},
        places={p.id: place for p in registry.mentioned if (place := p.place()) is not None},
    )


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
    observe(settings)
    if not settings.fusewire_secret_arns:
        warn_of_expiring_keys(made.registry)
    if settings.takes_snapshot:
        from snapshot_restore_py import register_before_snapshot  # type: ignore[import-untyped]

        register_before_snapshot(made.import_sdks)
    return made

"""What a function needs that calls no provider: settings, the ledger, keys, and the secrets of the moment.

The authorizer, the migration and the monthly reset start from here, and import nothing of `fusewire.ai`; the other
functions start from `fusewire.services`, which adds the providers.

Everything here is cheap: no connection is opened and no secret is read before a request needs it, so a snapshot that
is taken after INIT holds none of them.
"""

import threading
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from fusewire import logs, metrics, tracing
from fusewire.budget.key_checks import KeyChecks
from fusewire.budget.ledger import Ledger
from fusewire.config import ConfigurationError, Settings, current_settings, load_settings
from fusewire.store.db import Database

if TYPE_CHECKING:
    from fusewire.budget.adjustments import Adjustments
    from fusewire.budget.audit import Audit
    from fusewire.budget.keys import Keys
    from fusewire.budget.limits import AuditedLimits
    from fusewire.budget.nodes import Nodes
    from fusewire.budget.price_history import PriceHistory
    from fusewire.budget.raised_allowances import RaisedAllowances
    from fusewire.budget.usage import Books
    from fusewire.credentials import SecretSettings
    from fusewire.store.db import Credentials
    from fusewire.store.kept_responses import KeptResponses


class Core:
    """The ledger, its keys and its books under one set of settings.

    They outlive every change of a secret: what they keep is money.
    """

    def __init__(self, settings: Settings) -> None:
        self.database = Database(
            settings.database_url,
            _credentials_of(settings),
            connections=settings.database_connections,
            groups=settings.groups_statements,
        )
        self.ledger = Ledger(self.database, settings)
        self.key_checks = KeyChecks(self.database, settings)
        self._given = self._settings = settings
        self._secrets = _secrets_of(settings)
        self._refreshing = threading.Lock()

    @property
    def settings(self) -> Settings:
        """As they are known by now: before the first call without what Secrets Manager keeps."""
        return self._settings

    # What follows is made by who asks for it: most functions have no use for it, and import none of it.

    @cached_property
    def keys(self) -> "Keys":
        """The keys, as administrators see and change them."""
        from fusewire.budget.keys import Keys

        return Keys(self.database, self._given)

    @cached_property
    def limits(self) -> "AuditedLimits":
        """Limits that an administrator sets."""
        from fusewire.budget.limits import AuditedLimits

        return AuditedLimits(self.database, self._given)

    @cached_property
    def nodes(self) -> "Nodes":
        """The tree of budgets."""
        from fusewire.budget.nodes import Nodes

        return Nodes(self.database, self._given)

    @cached_property
    def adjustments(self) -> "Adjustments":
        """Amounts that an administrator books."""
        from fusewire.budget.adjustments import Adjustments

        return Adjustments(self.database, self._given)

    @cached_property
    def books(self) -> "Books":
        """What was called, and what it cost."""
        from fusewire.budget.usage import Books

        return Books(self.database, self._given)

    @cached_property
    def audit(self) -> "Audit":
        """Who changed what."""
        from fusewire.budget.audit import Audit

        return Audit(self.database)

    @cached_property
    def price_history(self) -> "PriceHistory":
        """Prices that an administrator sets."""
        from fusewire.budget.price_history import PriceHistory

        return PriceHistory(self.database, self._given)

    @cached_property
    def raised_allowances(self) -> "RaisedAllowances":
        """Allowances that usage beyond its bound has raised."""
        from fusewire.budget.raised_allowances import RaisedAllowances

        return RaisedAllowances(self.database, self._given)

    @cached_property
    def kept_responses(self) -> "KeptResponses":
        """What `POST /responses` keeps."""
        from fusewire.store.kept_responses import KeptResponses

        hours = self._given.ai_responses_retention_hours
        return KeptResponses(self.database, hours, lambda: self.secret("AI_RESPONSES_KEY"))

    def secret(self, name: str) -> SecretStr | None:
        """A credential of the settings, read from Secrets Manager where it isn't known yet or may have changed.

        :raises SecretsUnavailableError: when it can't be read
        """
        self.refresh()
        return self._settings.secret(name)

    def refresh(self) -> None:
        """Take over what has changed in Secrets Manager, unless it can't be used: then what is in use stays.

        :raises SecretsUnavailableError: when there are secrets, and none could be read and used yet
        """
        # One call looks; the others wait for the first answer, and after that go on with what is in use.
        if self._secrets is None or not self._refreshing.acquire(blocking=self._settings is self._given):
            return
        try:
            if (found := self._secrets.changed()) is not None:
                self._take_over(self._secrets, found)
        finally:
            self._refreshing.release()

    def _take_over(self, secrets: "SecretSettings", found: Mapping[str, str]) -> None:
        try:
            settings = load_settings({**self._given.environment, **found})
            self.use(settings)
        except ConfigurationError as error:
            secrets.refuse(str(error))
        else:
            self._settings = settings

    def use(self, settings: Settings) -> None:
        """Make what depends on the secrets, if anything does.

        :raises ConfigurationError: when these settings name what doesn't exist
        """


@cache
def core() -> Core:
    """This process's core, from its environment."""
    made = Core(current_settings())
    observe(made.settings)
    return made


def observe(settings: Settings) -> None:
    """Have logs, metrics and traces written as the settings say."""
    logs.set_level(settings.log_level)
    metrics.configure(settings.fusewire_metrics_namespace)
    tracing.set_enabled(settings.fusewire_tracing == "on")


def _credentials_of(settings: Settings) -> "Credentials | None":
    if not settings.has_separate_database_login:
        return None
    from fusewire.credentials import database_credentials

    return database_credentials(settings)


def _secrets_of(settings: Settings) -> "SecretSettings | None":
    if not settings.fusewire_secret_arns:
        return None
    from fusewire.credentials import SecretSettings

    return SecretSettings(settings.fusewire_secret_arns)

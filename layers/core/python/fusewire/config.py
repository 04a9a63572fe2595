"""Every setting, read once at INIT from the environment. No other module reads `os.environ`.

A wrong value stops the start with one line that names the variable, the value and what is allowed. Values of
variables that carry secrets are never printed.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from math import inf
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from fusewire.price_overrides import FLAT, TIERED, PriceOverride

_DEFAULT_CHAIN: Final = ("azure", "aws", "gcp", "openai", "anthropic", "vllm", "ollama")
_SECRET_NAME: Final = re.compile(r"KEY|SECRET|TOKEN(?!S)|PASSWORD|DATABASE_URL|ENDPOINT|BASE_URL")
_MAX_BUDGET: Final = 10**12
_MIN_KEY: Final = 24
_PLACEHOLDER: Final = re.compile(r"(?i)^(put|insert|paste|replace|your)[-_]|change[-_]?(me|this)|^[<{].*[>}]$")
"""What manuals write in a key's place, ours among them."""
_MAX_SILENCE_ON_AWS: Final = 285.0  # of 300, less what a start takes before it and settling after it
_NOT_PUBLIC: Final = {"environment", "database_url", "admin_api_key", "ai_responses_key", "log_level", "cors_origins"}
_KEY_EXPIRY: Final = "_KEY_EXPIRES_ON"
_MODEL_VARIABLE: Final = re.compile(r"(?!AI_)[A-Z]\w*_(?:MODEL|DEPLOYMENT)")


MAX_CONNECTIONS: Final = 4
"""To Postgres, of one process; where it has more than one, another listens while calls wait for room."""


class ConfigurationError(Exception):
    """A setting that can't be used; `str()` is one line for the operator."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # The last one would win in silence.
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"{_one_line(twice)!r} stands there twice")
    return found


def _json_object(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        # Decimal from the text itself: a price never passes through a float.
        value = json.loads(text, parse_float=Decimal, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it must be a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object")
    return value


def _comma_list(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _time_zone(name: str) -> str:
    try:
        if name in ("localtime", "posixrules"):
            raise ValueError("files beside the zones that Python takes for zones, and Postgres doesn't")
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError("it must be an IANA time zone such as UTC or Europe/Berlin") from error
    return name


def _budget(amount: Decimal) -> Decimal:
    if not 0 <= amount <= _MAX_BUDGET:
        raise ValueError(f"it must be a number of USD, from 0 to {_MAX_BUDGET}")
    return amount


def _connection_string(url: SecretStr) -> SecretStr:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(url.get_secret_value())
    except ProgrammingError:
        # Without its text, which quotes the string.
        raise ValueError("it must be a libpq connection string such as postgresql://user@host/name") from None
    return url


def _api_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < _MIN_KEY or not all("!" <= character <= "~" for character in text):
        raise ValueError(f"it must be {_MIN_KEY} or more printable ASCII characters without spaces")
    if _PLACEHOLDER.search(text):
        raise ValueError("it is an example's placeholder, which everybody knows: `make -s key` makes one")
    return key


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
Share = Annotated[Decimal, Field(gt=0, le=1)]


class Settings(BaseModel):
    """The settings, by the names of their variables in lower case; the rest of the environment is `environment`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ai_mode: Literal["cloud", "local", "hybrid"] = "cloud"
    ai_default_provider: str | None = None
    ai_fallback_chain: Names = _DEFAULT_CHAIN
    ai_request_timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 900
    ai_silence_timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 300
    ai_max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """That no output cap passes; None: a call without one gets its model's largest."""
    ai_output_cap_policy: Literal["fit", "strict"] = "fit"
    ai_admission_wait_seconds: Annotated[float, Field(ge=0, le=600)] = 20
    ai_max_waiting_per_key: Annotated[int, Field(ge=1, le=10_000)] = 100

    ai_monthly_budget_usd: Annotated[Decimal, AfterValidator(_budget)] = Decimal(500)
    ai_monthly_budget_max_usd: Annotated[Decimal, AfterValidator(_budget)] | None = None
    """That no limit passes which is set at run time; None: there is no maximum."""
    ai_budget_alert_threshold: Share = Decimal("0.8")
    ai_circuit_breaker_threshold: Share = Decimal("0.95")
    ai_half_open_policy: Literal["warn", "downgrade"] = "warn"
    ai_budget_timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    ai_reservation_ttl_seconds: Annotated[float, Field(gt=0, le=86_400)] = 960
    ai_ledger_slots: Annotated[int, Field(ge=1, le=64)] | None = None
    """Over how many rows the room is spread; None: as the load needs."""
    ai_price_overrides: Annotated[dict[str, PriceOverride], BeforeValidator(_json_object)] = {}
    ai_model_aliases: Annotated[dict[str, str], BeforeValidator(_json_object)] = {}
    """What a model's name in a client's configuration stands for; one that ends with `*` covers all that begin so."""
    ai_price_aliases: Annotated[dict[str, str], BeforeValidator(_json_object)] = {}
    ai_output_bounds: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=10_000_000)]], BeforeValidator(_json_object)
    ] = {}
    """The most output tokens that a call of a model may be billed for, where its reasoning isn't under the cap."""

    ai_embedding_encoding: Literal["cl100k_base"] | None = None
    """The encoding of the token ids that clients send for embeddings to models that don't take token ids."""
    ai_responses_retention_hours: Annotated[int, Field(ge=0, le=720)] = 0
    """How long `POST /responses` keeps an answer with its conversation; 0 keeps none."""
    ai_responses_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = None
    """What the kept ones are encrypted with."""

    database_url: Annotated[SecretStr, AfterValidator(_connection_string)] | None = None
    cors_origins: Names = ()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    auth_mode: Literal["keys", "open"] = "keys"
    admin_api_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = None
    fusewire_secret_arns: Names = ()
    fusewire_database_secret_arn: str | None = None
    fusewire_app_secret_arn: str | None = None
    fusewire_database_iam: Literal["true", "false"] = "false"
    fusewire_app_iam: Literal["true", "false"] = "false"
    """Whether `migrate` has RDS itself take tokens from the functions' role, and not a proxy before it."""
    fusewire_metrics_namespace: Annotated[str, Field(pattern="^[A-Za-z0-9._/#:-]+$", max_length=255)] | None = None
    """The CloudWatch namespace of the metric lines; None prints none."""
    fusewire_tracing: Literal["on", "off"] = "off"
    """Whether requests that X-Ray samples are told apart into attempts and statements."""
    fusewire_streaming: Literal["on", "off"] = "on"
    """Read by layers/core/bin/stream, before any of this runs; here so that another word stops the start."""

    environment: Mapping[str, str] = Field(default={}, repr=False)
    """Every variable that is set and not blank. Providers look up here what they declare in their own file."""

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> "Settings":
        if self.ai_budget_alert_threshold >= self.ai_circuit_breaker_threshold:
            raise ConfigurationError(
                f"AI_BUDGET_ALERT_THRESHOLD={self.ai_budget_alert_threshold} must be below "
                f"AI_CIRCUIT_BREAKER_THRESHOLD={self.ai_circuit_breaker_threshold}."
            )
        return self

    @model_validator(mode="after")
    def _budget_within_its_maximum(self) -> "Settings":
        maximum = self.ai_monthly_budget_max_usd
        if maximum is not None and self.ai_monthly_budget_usd > maximum:
            raise ConfigurationError(
                f"AI_MONTHLY_BUDGET_USD={self.ai_monthly_budget_usd:f} must not be above "
                f"AI_MONTHLY_BUDGET_MAX_USD={maximum:f}."
            )
        return self

    @model_validator(mode="after")
    def _reservations_outlive_calls(self) -> "Settings":
        # One that expires in mid-call is booked at its bound, and corrected when the call ends.
        if self.ai_reservation_ttl_seconds <= self.ai_request_timeout_seconds:
            raise ConfigurationError(
                f"AI_RESERVATION_TTL_SECONDS={self.ai_reservation_ttl_seconds:g} must be above "
                f"AI_REQUEST_TIMEOUT_SECONDS={self.ai_request_timeout_seconds:g}."
            )
        return self

    @model_validator(mode="after")
    def _kept_under_a_key(self) -> "Settings":
        # On AWS the key comes from Secrets Manager, after the start.
        if self.ai_responses_retention_hours and self.ai_responses_key is None and not self.fusewire_secret_arns:
            raise ConfigurationError(
                f"AI_RESPONSES_RETENTION_HOURS={self.ai_responses_retention_hours} needs AI_RESPONSES_KEY, to encrypt "
                f"what is kept: {_MIN_KEY} or more printable ASCII characters, such as `openssl rand -hex 24` prints."
            )
        return self

    @model_validator(mode="after")
    def _known_model_names(self) -> "Settings":
        for variable, names in (
            ("AI_PRICE_OVERRIDES", self.ai_price_overrides),
            ("AI_PRICE_ALIASES", self.ai_price_aliases),
        ):
            for name in names:
                if not all(name.partition("/")):
                    raise ConfigurationError(f"{variable}: {name!r} must be provider/model or provider/*.")
        for name in self.ai_output_bounds:
            if not all(name.partition("/")) or name.endswith("/*"):
                raise ConfigurationError(f"AI_OUTPUT_BOUNDS: {name!r} must be provider/model.")
        return self

    @model_validator(mode="after")
    def _keys_on_lambda(self) -> "Settings":
        if self.auth_mode == "open" and self.on_lambda:
            raise ConfigurationError("AUTH_MODE=open is for a laptop and refused on Lambda: set AUTH_MODE=keys.")
        return self

    @property
    def on_lambda(self) -> bool:
        """Whether AWS runs this. Of the two variables, a container's image lacks the first; a laptop has neither."""
        named = self.environment.get("AWS_EXECUTION_ENV", "").startswith("AWS_Lambda_")
        return named or "AWS_LAMBDA_INITIALIZATION_TYPE" in self.environment

    @property
    def takes_snapshot(self) -> bool:
        """Whether the platform takes a snapshot of this process after INIT (SnapStart)."""
        return self.environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"

    @property
    def has_separate_database_login(self) -> bool:
        """Whether `DATABASE_URL` doesn't say how the ledger's role logs in: a secret does, or a token of AWS."""
        return self.fusewire_database_iam == "true" or self.fusewire_database_secret_arn is not None

    @property
    def database_connections(self) -> int:
        """How many connections to Postgres this process opens at most. It needs more than one where the platform gives
        it several events at once, and no more than statements that are run at once help each other."""
        return min(int(self.environment.get("AWS_LAMBDA_MAX_CONCURRENCY", "1")), MAX_CONNECTIONS)

    @property
    def groups_statements(self) -> bool:
        """Whether statements of several calls that come together are booked in one transaction. Where the operator has
        the room spread over slots, each group would take them back."""
        return self.ai_ledger_slots in (None, 1)

    @property
    def max_silence_seconds(self) -> float:
        """How long a caller may wait for the first byte: API Gateway gives up on what is silent for 5 minutes."""
        return _MAX_SILENCE_ON_AWS if self.on_lambda else inf

    def variable(self, name: str) -> str | None:
        """The value of a provider's variable, None where it is unset or blank."""
        return self.environment.get(name)

    def public(self) -> dict[str, object]:
        """What these settings decide, without a secret or an address, for the audit."""
        result = self.model_dump(mode="json", exclude=_NOT_PUBLIC)
        models = {name.lower(): value for name, value in self.environment.items() if _MODEL_VARIABLE.fullmatch(name)}
        return result | models

    def secret(self, name: str) -> SecretStr | None:
        """The same for a credential, wrapped so that it can't be printed by accident."""
        value = self.environment.get(name)
        return SecretStr(value) if value else None

    def key_expiry(self, provider: str) -> date | None:
        """`<PROVIDER>_KEY_EXPIRES_ON`; :raises ConfigurationError: when it isn't a date."""
        name = f"{provider.upper()}{_KEY_EXPIRY}"
        value = self.environment.get(name)
        try:
            return date.fromisoformat(value) if value else None
        except ValueError as error:
            raise ConfigurationError(f"{name}={_one_line(value or '')} must be a date, YYYY-MM-DD.") from error


def _shown(name: str, value: object) -> str:
    return "(hidden)" if _SECRET_NAME.search(name) else _one_line(str(value))


def _one_line(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text[:80])
    return printable if len(text) <= 80 else printable[:77] + "..."


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]).upper() if problem["loc"] else "settings"
    within = ".".join(str(part) for part in problem["loc"][1:] if part not in (FLAT, TIERED))
    what = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = _shown(name, json.dumps(value, default=str) if isinstance(value, dict) else value)
    return f"{name}={shown} can't be used: {within + ': ' if within else ''}{what}."


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables; blank ones count as unset, but for DATABASE_URL.

    :raises ConfigurationError: with one line that names the variable, the value and what is allowed
    """
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    if "DATABASE_URL" in environ and "DATABASE_URL" not in given:
        raise ConfigurationError(
            "DATABASE_URL is set but empty: it must be a libpq connection string such as postgresql://user@host/name, "
            "or unset."
        )
    fields: dict[str, Any] = {name: given[name.upper()] for name in Settings.model_fields if name.upper() in given}
    if "log_level" in fields:
        fields["log_level"] = fields["log_level"].upper()
    try:
        settings = Settings(**fields | {"environment": given})
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error)) from None
    for name in given:
        if name.endswith(_KEY_EXPIRY):
            settings.key_expiry(name.removesuffix(_KEY_EXPIRY))
    return settings


@cache
def current_settings() -> Settings:
    """This process's settings, read from its environment once."""
    return load_settings(os.environ)

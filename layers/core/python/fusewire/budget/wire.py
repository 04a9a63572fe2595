"""The jsonb objects that cross between Python and the ledger's functions, and the statements that carry them.

Each shape is written by one side and read by the other: `store/functions/*.sql` is the other side. Amounts are USD.
Numbers with a fraction come as Decimal, whole ones as int; times are ISO 8601.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, NotRequired, TypedDict

from fusewire.config import Settings
from fusewire.store.db import Statement

State = Literal["CLOSED", "HALF_OPEN", "OPEN"]
SettlementMode = Literal["actual", "bound", "release"]
"""At its actual cost, at its bound (a part of it, where there is a cost too), or not at all."""
HealthEffect = Literal["ok", "count", "now", "note"]
Amount = Decimal | int
Period = Literal["month", "week", "day", "none"]
"""After which a budget's windows end."""


class SettingsArgument(TypedDict):
    """What every ledger function knows of the settings."""

    limit: Decimal
    """The setting, in whose place an audited limit may stand (`limits.sql`)."""
    max_limit: NotRequired[Decimal | None]
    """That no audited limit passes."""
    alert: Decimal
    """A share of the limit, as `open`."""
    open: Decimal
    timezone: str
    ttl_seconds: float
    slots: int | None
    """None: the number follows from the load (`slots.sql`)."""


def sql_settings(settings: Settings) -> SettingsArgument:
    """The `settings` argument: limits in USD, thresholds as shares of the one in force."""
    return {
        "limit": settings.ai_monthly_budget_usd,
        "max_limit": settings.ai_monthly_budget_max_usd,
        "alert": settings.ai_budget_alert_threshold,
        "open": settings.ai_circuit_breaker_threshold,
        "timezone": settings.ai_budget_timezone,
        "ttl_seconds": settings.ai_reservation_ttl_seconds,
        "slots": settings.ai_ledger_slots,
    }


# --- budgets ---


class WindowRow(TypedDict):
    """`ledger_window_json`."""

    id: int
    budget: str
    """`global`, or the id of a key or a node; `user:<key>:<hash>` of a key's user."""
    opened_at: str
    opened_by: str
    resets_at: str | None
    """None where the budget's period never ends."""
    closed_at: str | None
    spent: Amount
    reserved: Amount
    request_count: int


class BudgetRow(WindowRow):
    """`ledger_budget_json`."""

    state: State
    limit: Amount | None
    """None for a key or a node without a limit of its own."""


class KeyBudgetRow(BudgetRow):
    """`ledger_key_json`."""

    requests_per_minute: int | None
    requests_left: int | None
    tokens_per_minute: int | None
    tokens_left: int | None
    rate_window_ends_in: int
    """Seconds."""


class AuditedLimitRow(TypedDict):
    """`budget_limit_json`, of one that stands."""

    id: str
    window_id: int
    set_at: str
    amount: Amount
    until: Literal["window"] | None
    reason: str
    actor: str
    request_id: str


class LimitsRow(TypedDict):
    """`ledger_limits_json`."""

    in_force: Amount
    setting: Amount
    maximum: Amount | None
    next_window: Amount
    audited: AuditedLimitRow | None


class WaitingRow(TypedDict):
    """`admission_json`: the calls that wait for room."""

    calls: int
    longest_seconds: Amount
    """For which the first of them has waited."""


class DailySpendRow(TypedDict):
    """`usage_days`."""

    today: str
    since: str | None
    days: dict[str, Amount]


# --- what a statement is the first to see ---


class RolloverRow(TypedDict):
    """A window that was closed, and its successor."""

    closed: WindowRow
    opened: WindowRow


class ExpiredRow(TypedDict):
    """A reservation that expired, and was settled at its bound (`ledger_expire`)."""

    request_id: str
    attempt: int
    provider: str
    model: str
    tier: str | None
    key_id: str | None
    cost: Amount


class ThresholdEventRow(TypedDict):
    """`ledger_threshold_event_json`."""

    state: Literal["HALF_OPEN", "OPEN"]
    window_id: int
    budget: str
    spent: Amount
    limit: Amount


class Seen(TypedDict):
    """What a statement returns to the first caller that sees it, and to nobody else."""

    rolled_over: NotRequired[RolloverRow | None]
    key_rolled_over: NotRequired[RolloverRow | None]
    path_rolled_over: NotRequired[Sequence[RolloverRow] | None]
    """Of budgets between the company's and the key's."""
    expired: NotRequired[Sequence[ExpiredRow] | None]
    threshold_events: NotRequired[Sequence[ThresholdEventRow] | None]


# --- reserve and settle ---


class EntryArgument(TypedDict):
    """The entry that a reservation makes."""

    id: str
    request_id: str
    attempt: int
    operation: str
    tier: str | None
    key_id: str | None
    user: NotRequired[str]
    """Of a key's request: SHA-256 of the key's id and the user, in hex."""


class FitArgument(TypedDict):
    """How a smaller output cap changes a candidate's worst case: by `per_token` USD and `n` tokens each."""

    fixed: Decimal
    """USD beside the output."""
    per_token: Decimal
    cap: int
    min_cap: int
    """The smallest of use."""
    first_cap: int
    """What is sent while nobody knows how long the model's answers are."""
    fixed_tokens: int
    n: int


class CandidateArgument(TypedDict):
    """Who may serve a call, and its worst case there."""

    provider: str
    model: str
    bound: Decimal
    allowance: NotRequired[int]
    """Tokens within the bound for what the server adds."""
    tokens: int
    fit: NotRequired[FitArgument]
    """Missing where the cap has to stay as it is."""


class DowngradeArgument(TypedDict):
    """Who serves it while a budget is HALF_OPEN."""

    tier: str
    candidates: Sequence[CandidateArgument]


class RefusalArgument(TypedDict):
    """A refusal that is counted by key and model; `vendor_refusal_record` says what follows."""

    threshold: int
    """From how many on the key is kept from the model."""
    seconds: float


class SettlementArgument(TypedDict):
    """How an entry ends."""

    id: str
    mode: SettlementMode
    outcome: str
    cost: NotRequired[Decimal | None]
    """At the bound: the part of it that may be billed; None for the whole."""
    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]
    cached_input_tokens: NotRequired[int]
    cache_write_tokens: NotRequired[int]
    reasoning_tokens: NotRequired[int]
    refusal: NotRequired[RefusalArgument]
    allowance: NotRequired[int]
    """Tokens that the entry's model must be allowed from now on."""
    size: NotRequired[int]
    """Tokens of an answer; one more than its cap where that cut it off."""


class HealthUpdateArgument(TypedDict):
    """What an attempt's end says of its provider; `provider_health_record` says what each effect does."""

    provider: str
    effect: HealthEffect
    kind: str | None
    message: str | None
    seconds: float
    threshold: int
    max_seconds: float


class SettleArgument(TypedDict):
    """For `ledger_settle`; `Ended` with the settings."""

    settings: SettingsArgument
    settlement: SettlementArgument
    health_update: NotRequired[HealthUpdateArgument]
    resent: NotRequired[bool]


class GiveBackArgument(TypedDict):
    """For `ledger_give_back`: what a pending reservation is lowered to."""

    settings: SettingsArgument
    id: str
    bound: Amount
    tokens: int


class Ended(TypedDict):
    """A settlement as it is kept until it can be sent."""

    settlement: SettlementArgument
    health_update: NotRequired[HealthUpdateArgument]


class PricesArgument(TypedDict):
    """Which prices the bounds were computed with."""

    version: int
    until: str | None
    """When the next scheduled price begins."""


class PriceInForceRow(TypedDict):
    """A price of `price_table`."""

    provider: str
    model: str
    entry: dict[str, object]


class PriceTableRow(PricesArgument):
    """`price_table`: the prices in force."""

    prices: Sequence[PriceInForceRow]


class WaitArgument(TypedDict):
    """That a call which only lacks room waits for it (`admission.sql`)."""

    max_per_key: int
    lease_seconds: float
    """How long its place counts from now on."""
    waited_percent: int
    """How much of its time it has waited, 0 to 100."""
    holds: NotRequired[bool]
    """Whether it has a ticket."""
    last: NotRequired[bool]
    """Whether it won't ask again."""
    session: NotRequired[int]
    """The session's process, as the connection was told of it."""
    listens: NotRequired[bool]
    """Whether that session is notified when there is room."""


class WithdrawArgument(TypedDict):
    """For `admission_withdraw`: the entry whose place in the line is given up."""

    settings: SettingsArgument
    id: str
    wait: WaitArgument


class ReserveArgument(TypedDict):
    """For `ledger_reserve`."""

    settings: SettingsArgument
    entry: EntryArgument
    candidates: Sequence[CandidateArgument]
    probe_seconds: int
    downgrade: NotRequired[DowngradeArgument]
    prices: NotRequired[PricesArgument]
    settings_snapshot: NotRequired[dict[str, object]]
    settlement: NotRequired[SettlementArgument]
    """Of the failed attempt before this one."""
    health_update: NotRequired[HealthUpdateArgument]
    wait: NotRequired[WaitArgument]


class CoolingRow(TypedDict):
    """A candidate that was skipped."""

    candidate: int
    """Its index."""
    until: str
    kind: str | None


class RefusingRow(BudgetRow):
    """A budget that refused, from `ledger_path_refusal`."""

    name: str | None
    """The node's; None of a user's budget."""


class ReserveResult(Seen):
    """What `ledger_reserve` returns; with `refused`, nothing was reserved."""

    budget: BudgetRow
    key: KeyBudgetRow | None
    candidate: NotRequired[int]
    """Its index."""
    cap: NotRequired[int | None]
    """The output cap that it is reserved with, where that is smaller than the candidate's."""
    ticket: NotRequired[int]
    """It is refused for now, and has a place in the line."""
    listens: NotRequired[bool]
    """Whether the session is notified from now on when there is room."""
    waiting: NotRequired[bool]
    """It was seen without a lock that it is still to wait: there is no more in the result."""
    downgraded: NotRequired[bool]
    ample: NotRequired[bool]
    """Nobody misses the room that it holds: it may be settled after its answer."""
    cooling: NotRequired[Sequence[CoolingRow] | None]
    cooldown_until: NotRequired[str | None]
    refused: NotRequired[
        Literal[
            "exceeded",
            "reserved",
            "rate_limited",
            "too_large",
            "revoked",
            "no_user",
            "cooling_down",
            "repeated",
            "allowance_raised",
            "stale_prices",
        ]
    ]
    prices: NotRequired[PriceTableRow]
    """Those in force, where it was refused at stale ones."""
    by: NotRequired[str]
    """Which budget refused: `global`, the key's id, or another as `WindowRow` names it."""
    refused_by: NotRequired[RefusingRow]
    """The budget that refused, where it is neither the company's nor the key's."""
    provider: NotRequired[str]
    """With `model`: whose refusals are repeated, or whose allowance was raised."""
    model: NotRequired[str]
    refusals: NotRequired[int]
    """How many there were, where they are repeated."""
    bound: NotRequired[Amount | None]
    limit: NotRequired[str | int]
    """`requests` or `tokens` where it is rate limited; the key's tokens per minute where it is too large."""
    tokens: NotRequired[int]
    """Of the call where it is too large; the allowance that is recorded where it was raised."""
    retry_after: NotRequired[int]
    """Seconds."""


class SettleResult(Seen):
    """What `ledger_settle` returns; `budget` and `key` are missing when the entry isn't in this database."""

    status: Literal["settled", "released"] | None
    cost: NotRequired[Amount | None]
    cost_basis: NotRequired[Literal["actual", "bound"] | None]
    cooldown_until: str | None
    budget: NotRequired[BudgetRow]
    key: NotRequired[KeyBudgetRow | None]


class HealthRow(TypedDict, total=False):
    """What is recorded of one provider (`provider_health_json`)."""

    consecutive_failures: int
    cooldown_until: str | None
    cooled_at: str | None
    last_success_at: str | None
    last_failure_at: str | None
    last_failure_kind: str | None
    last_failure_message: str | None


# --- the budget API and the reset ---


class BudgetArgument(TypedDict):
    """For `ledger_budget`."""

    settings: SettingsArgument
    id: str


class BudgetResult(Seen):
    """What `ledger_budget` returns."""

    budget: BudgetRow
    limits: LimitsRow
    waiting: WaitingRow
    by_provider: dict[str, Amount]
    by_model: dict[str, Amount]
    days: DailySpendRow


class ResetArgument(TypedDict):
    """For `ledger_reset`."""

    settings: SettingsArgument
    id: str
    opened_by: Literal["admin", "schedule"]
    actor: str
    request_id: str
    budget: NotRequired[str]
    at: NotRequired[str]
    """When the schedule's run was due."""
    source_ip: NotRequired[str | None]
    reason: NotRequired[str | None]


class ResetResult(Seen):
    """What `ledger_reset` returns; `closed` is None when there was nothing to do."""

    closed: WindowRow | None
    opened: WindowRow
    limit: Amount
    """The company's that is in force, in USD."""


RESERVE: Final = Statement[ReserveArgument, ReserveResult]("SELECT ledger_reserve($1::jsonb)", "reserve")
SETTLE: Final = Statement[SettleArgument, SettleResult]("SELECT ledger_settle($1::jsonb)", "settle")
GIVE_BACK: Final = Statement[GiveBackArgument, object]("SELECT ledger_give_back($1::jsonb)")
WITHDRAW: Final = Statement[WithdrawArgument, object]("SELECT admission_withdraw($1::jsonb)")
BUDGET: Final = Statement[BudgetArgument, BudgetResult]("SELECT ledger_budget($1::jsonb)")
RESET: Final = Statement[ResetArgument, ResetResult]("SELECT ledger_reset($1::jsonb)")
PRICE_TABLE: Final = Statement[Mapping[str, object], PriceTableRow]("SELECT price_table_json($1::jsonb)")
PROVIDER_HEALTH: Final = Statement[Mapping[str, object], dict[str, HealthRow]]("SELECT provider_health_json($1::jsonb)")

"""What `make run` says once it serves: who answers, what may be spent, who may call, and what to type."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fusewire.ai.provider import TIERS, AIProvider
from fusewire.budget.breaker import Budget
from fusewire.errors import ModelNotPricedError, usd
from fusewire.services import Services
from local.environment import KeySource
from local.mode import Mode

_QUESTION: Final = '{"model": "%s", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'


@dataclass(frozen=True, slots=True)
class Gateway:
    """What serves, and what its caller has to know."""

    port: int
    core: Services
    mode: Mode
    stand_in: bool
    """Whether the embedded model is Ollama."""
    dotenv: Path
    admin_key: KeySource
    warnings: tuple[str, ...] = ()
    console: bool = False
    """Whether it is served, or will be once it is built."""


def banner(gateway: Gateway, budget: Budget) -> str:
    """Some twenty lines for the terminal; no secret is among them."""
    base = f"http://localhost:{gateway.port}/api/v1"
    return "\n".join(
        (
            *_steps(gateway, budget, base),
            *(("", *(f"  WARNING: {warning}" for warning in gateway.warnings)) if gateway.warnings else ()),
            *_commands(gateway, base),
            "",
            "Ctrl-C stops everything. The log follows.",
        )
    )


def step(name: str, text: str) -> str:
    """One line of progress."""
    return f"  {name:<9} {text}"


def _steps(gateway: Gateway, budget: Budget, base: str) -> Iterator[str]:
    yield step("Mode", f"{gateway.mode.name} ({gateway.mode.why})")
    for place, provider in enumerate(_chain(gateway.core)):
        yield step("" if place else "Chain", f"{provider.id:<10} {_models_of(gateway, provider)}")
    yield step("sota", _answered_by(gateway))
    left = f"{usd(budget.remaining)} USD left of {usd(budget.limit)} USD this month"
    yield step("Budget", f"{left} ({budget.state})")
    keys = gateway.core.settings.auth_mode == "keys"
    yield step("Auth", "keys: every caller needs one" if keys else "open: no key is asked for, on this machine alone")
    if gateway.console:
        yield step("Console", f"http://localhost:{gateway.port}/")
    yield step("Ready", base)


def _chain(core: Services) -> list[AIProvider]:
    return [provider for provider in core.registry.chain if core.tiers.permits(provider)]


def _models_of(gateway: Gateway, provider: AIProvider) -> str:
    named = [f"{tier} {_priced(gateway, provider, model)}" for tier in TIERS if (model := provider.tier_model(tier))]
    if not named:
        named = [f"embeddings only: {provider.embedding_model()}"]
    return ", ".join(named)


def _priced(gateway: Gateway, provider: AIProvider, model: str) -> str:
    try:
        gateway.core.prices.price(provider.id, model)
    except ModelNotPricedError:
        return f"{model} (refused until it has a price: AI_PRICE_OVERRIDES)"
    return model


def _answered_by(gateway: Gateway) -> str:
    names = [f"{p.id}/{model}" for p in _chain(gateway.core) if (model := p.tier_model("sota"))]
    if not names:
        return "nobody answers it: no provider of the chain has a model for it"
    text = f"answered by {names[0]}"
    if gateway.stand_in:
        return f"{text}, a model of 135M parameters on this machine, for trying things out"
    return text + (f", and if it fails by {', then '.join(names[1:])}" if names[1:] else "")


def _commands(gateway: Gateway, base: str) -> Iterator[str]:
    key = ""
    yield ""
    if gateway.core.settings.auth_mode == "keys":
        key = ' -H "Authorization: Bearer $ADMIN_API_KEY"'
        yield from _how_to_set_the_key(gateway)
    yield "Try:"
    offered = gateway.core.tiers.offered()
    if offered:
        question = _QUESTION % offered[0]
        yield f"  curl {base}/chat/completions{key} -H 'content-type: application/json' -d '{question}'"
    else:
        yield f"  curl {base}/models{key}"
    yield f"  curl {base}/admin/budget{key}"
    yield f"  curl {base}/admin/providers{key}"


def _how_to_set_the_key(gateway: Gateway) -> Iterator[str]:
    if gateway.admin_key == ".env":
        read = shlex.join([sys.executable, "-m", "dotenv", "-f", str(gateway.dotenv), "get", "ADMIN_API_KEY"])
        yield "First, in the terminal that you try it in:"
        yield f'  export ADMIN_API_KEY="$({read})"'
    elif gateway.admin_key == "environment":
        yield "ADMIN_API_KEY is the one of the environment that this was started in: export it in another terminal too."
    else:
        yield "No ADMIN_API_KEY is set, so only keys that were made before are taken."
        yield "`make -s key >> .env` makes one; then start again."

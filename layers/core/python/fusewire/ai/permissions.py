"""What a key may ask for: which models, and data of which classification.

It imports no provider and no schema, so that the authorizer, which starts before every call, doesn't either.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from fusewire.errors import InvalidRequestError, PermissionDeniedError

Classification = Literal["public", "internal", "confidential"]
CLASSIFICATIONS: Final = get_args(Classification)
"""From the least to the most strictly kept."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a key may ask for; None: everything."""

    models: tuple[str, ...] | None = None
    """Tiers, `provider/model`, `provider/*`, or a model's id."""
    classifications: tuple[str, ...] | None = None
    sees_settings: bool = False
    """Whether a refusal may tell of settings and of providers that aren't in use: to whoever runs the gateway."""

    def permits_model(self, asked: str, provider: str, model: str) -> bool:
        """Whether this model may answer a request that asked for `asked`."""
        return self.models is None or not {asked, model, f"{provider}/{model}", f"{provider}/*"}.isdisjoint(self.models)

    @property
    def only_confidential(self) -> bool:
        """Whether every request under this is confidential."""
        return self.classifications is not None and set(self.classifications) == {"confidential"}


EVERYTHING: Final = Permissions()


def classification_of(header: str | None, permissions: Permissions = EVERYTHING) -> Classification:
    """`x-fusewire-classification`; unset means internal, or the strictest that the key may use instead.

    :raises InvalidRequestError: for any other word, or none: guessing could send secrets to the wrong place
    :raises PermissionDeniedError: for one that the key may not use
    """
    allowed = [c for c in CLASSIFICATIONS if permissions.classifications is None or c in permissions.classifications]
    unset = "internal" if "internal" in allowed or not allowed else allowed[-1]
    word = (unset if header is None else header).strip().lower()
    for known in CLASSIFICATIONS:
        if word == known:
            if known not in allowed:
                raise PermissionDeniedError(
                    f"This API key may not send {known} data; allowed: {', '.join(allowed) or 'none'}.",
                    param="x-fusewire-classification",
                )
            return known  # type: ignore[no-any-return]
    raise InvalidRequestError(
        f"x-fusewire-classification must be one of {', '.join(CLASSIFICATIONS)}, not {word[:40]!r}.",
        param="x-fusewire-classification",
    )

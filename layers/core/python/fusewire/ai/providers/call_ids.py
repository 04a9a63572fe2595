"""The ids of a conversation's calls, as a vendor takes them: another vendor's have any length and alphabet."""

import re


class CallIds:
    """Those of one request. A result names its call by the id under which the call was sent."""

    def __init__(self, forbidden: re.Pattern[str], max_length: int | None = None) -> None:
        """
        :param forbidden: matches each character that no id may have
        :param max_length: in characters; without one an id that isn't a second one grows by nothing, so that the bound
            of the caller's own text holds
        """
        self._forbidden = forbidden
        self._max_length = max_length
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, call_id: str) -> str:
        """The id under which a call is sent: each only once, though the caller's conversation may repeat one."""
        unique, number = self._tidy(call_id), 1
        while unique in self._taken:
            number += 1
            unique = self._tidy(call_id, f"_{number}")
        self._taken.add(unique)
        self._sent[call_id] = unique
        return unique

    def of_result(self, call_id: str) -> str:
        """The id of the call, the last of this id, whose result is sent."""
        return self._sent.get(call_id) or self._tidy(call_id)

    def _tidy(self, call_id: str, suffix: str = "") -> str:
        tidy = self._forbidden.sub("_", call_id) or "_"
        return tidy[: None if self._max_length is None else self._max_length - len(suffix)] + suffix

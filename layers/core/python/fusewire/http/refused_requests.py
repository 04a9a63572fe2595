"""A key's requests that are refused before anything is reserved for them: its rate limit, and what admins see of them.

The ledger counts a call as it reserves for it. What fails validation never gets there, and costs time all the same. It
is counted once it has failed, so that good calls need no round trip for it. A key whose limit was found used up is
looked up before its next request is read. Each is gathered by key, code and minute (`store/functions/refused.sql`),
unless the ledger has refused it, which gathers its own.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fusewire.budget.key_checks import BOOTSTRAP, KeyChecks
from fusewire.errors import InvalidRequestError, LedgerUnavailableError, PermissionDeniedError, RateLimitedError
from fusewire.http.invocation import log_ledger_unavailable

_MAX_REMEMBERED: Final = 1024


class RefusedRequests:
    """Counts them, with what this environment knows of the keys."""

    def __init__(self, keys: KeyChecks | None) -> None:
        self._keys = keys
        self._used_up: OrderedDict[str, float] = OrderedDict()
        """Keys whose limit was used up, and until when their minute lasts, by `time.monotonic()`."""

    @contextmanager
    def counting(self, key_id: str | None, request_id: str) -> Iterator[None]:
        """The block handles a request of this key, which is counted where the block refuses it.

        :raises RateLimitedError: before the block, or in place of its refusal, when the key's requests are used up
        """
        if key_id is None or key_id == BOOTSTRAP or self._keys is None:
            yield
            return
        if time.monotonic() < self._used_up.pop(key_id, 0.0):
            with self._remembering(key_id):
                self._keys.check_rate(key_id, request_id)
        try:
            yield
        except InvalidRequestError as error:
            if not error.counted:
                try:
                    with self._remembering(key_id):
                        code = None if error.recorded else error.code
                        self._keys.count_refused(key_id, {"code": code, "request_id": request_id})
                except LedgerUnavailableError as unavailable:
                    log_ledger_unavailable(unavailable)  # the request is wrong whether or not it can be counted
            raise
        except PermissionDeniedError as error:
            try:
                self._keys.record_refused(key_id, error.code, request_id)
            except LedgerUnavailableError as unavailable:
                log_ledger_unavailable(unavailable)
            raise

    @contextmanager
    def _remembering(self, key_id: str) -> Iterator[None]:
        try:
            yield
        except RateLimitedError as error:
            self._used_up[key_id] = time.monotonic() + (error.retry_after or 0)
            while len(self._used_up) > _MAX_REMEMBERED:
                self._used_up.popitem(last=False)
            raise

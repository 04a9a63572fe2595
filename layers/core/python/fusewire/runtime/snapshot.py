"""SnapStart: the process is frozen once after INIT, and every execution environment is a copy of it.

Functions register what has to happen before and after with AWS's own `snapshot_restore_py`, so it happens under AWS's
client too. Connections, threads, credentials and random state belong to a copy: none may be made before.
"""

import os
import random
import sys
from typing import Final

from fusewire.runtime.api import RuntimeApi
from fusewire.runtime.report import report

_HOOKS: Final = "snapshot_restore_py"


def is_snapshot() -> bool:
    """Whether the platform wants to take a snapshot of this process."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def pass_through(api: RuntimeApi) -> bool:
    """Run the hooks, be frozen, and go on as one of the copies.

    :return: False when a hook failed: it was reported to the platform, and this process has to end
    :raises RuntimeApiError: when the platform is gone
    """
    hooks = sys.modules.get(_HOOKS)
    try:
        # Last registered, first run, as AWS's client does.
        for function, arguments, keywords in reversed(hooks.get_before_snapshot() if hooks else ()):
            function(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001 - anything may go wrong in a hook
        api.fail_init(report(error))
        return False
    api.wait_for_restore()
    try:
        random.seed()  # every copy would draw the same numbers: back-offs of a fleet in step
        for function, arguments, keywords in hooks.get_after_restore() if hooks else ():
            function(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001 - as above
        api.fail_restore(report(error))
        return False
    return True

"""LiteLLM's Router, with a budget for its provider, called by everybody at once: a program for LiteLLM's own Python.

Its one argument is JSON (see `benchmarks.overshoot`); the last line that it prints is the list of calls that were
served, by burst.
"""

import asyncio
import json
import sys
from typing import Any, Final

from litellm import Router  # in its own environment

_BOOKING_SECONDS: Final = 2.0
"""Costs are added up in tasks of the background: the next burst leaves them the time to."""


async def main(arguments: dict[str, Any]) -> None:
    """Run the bursts one after the other, and print what was served."""
    model = {
        "model_name": arguments["request"]["model"],
        "litellm_params": {
            "model": f"openai/{arguments['request']['model']}",
            "api_base": arguments["url"],
            "api_key": arguments["key"],
            "input_cost_per_token": 0,
            "output_cost_per_token": arguments["output_usd"],
        },
    }
    router = Router(
        model_list=[model],
        provider_budget_config={"openai": {"budget_limit": arguments["limit_usd"], "time_period": "1d"}},
        num_retries=0,
    )
    served = []
    for _ in range(arguments["bursts"]):
        results = await asyncio.gather(
            *(router.acompletion(**arguments["request"]) for _ in range(arguments["callers"])), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        if unexpected := [error for error in refused if "budget" not in str(error).lower()]:
            raise unexpected[0]
        served.append(len(results) - len(refused))
        await asyncio.sleep(_BOOKING_SECONDS)
    print(json.dumps(served))  # noqa: T201 - it is what this program is for


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

"""The laptop's stand-in for API Gateway, Lambda, EventBridge, RDS and Ollama.

`python -m local` starts it; nothing of it ships in the layer.
"""


class StartError(Exception):
    """It can't start; `str()` is one line that says what to do."""

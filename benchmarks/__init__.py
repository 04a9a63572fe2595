"""Side-by-side measurements of fusewire and its peers: `python -m benchmarks`."""


class BenchmarkError(Exception):
    """Why a run says nothing; `str()` is for whoever started it."""

"""Whether a budget is used before it refuses: a real trace through the gateway, and what was refused or cut needlessly.

`python -m benchmarks.admission` runs it, `trace.md` says where the calls come from, docs/admission.md has the figures.
"""

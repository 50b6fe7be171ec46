"""The native OCI runtime, the shim, and the engine's handle of it (`interface`).

Nothing is imported here: every shim would pay for it.
"""

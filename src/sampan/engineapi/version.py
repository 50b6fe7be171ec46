"""Which versions of the Engine API are spoken."""

API_VERSION = (1, 56)
"""The newest version; clients negotiate down to it."""

MINIMUM_API_VERSION = (1, 24)
"""Older requests are refused, as dockerd does."""

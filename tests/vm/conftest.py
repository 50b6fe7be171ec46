"""Tests of what only the machine has: see `engine_fixtures` for how they get an engine."""

from __future__ import annotations

from engine_fixtures import busybox, engine, make_engine, shared_engine

__all__ = ["busybox", "engine", "make_engine", "shared_engine"]

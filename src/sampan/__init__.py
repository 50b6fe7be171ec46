"""Sampan: the container platform as one Python package.

    import sampan

    with sampan.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

`import sampan` is light: it loads nothing but this file until a name is used.
"""

from __future__ import annotations

from sampan.version import __version__

TYPE_CHECKING = False  # type checkers know the name; `typing` itself would cost 5 ms

if TYPE_CHECKING:
    from sampan.client.autostart import EngineCommand
    from sampan.client.building import BuildError, Image
    from sampan.client.containers import Container, ExitError, RunResult
    from sampan.client.engine import Engine, build, connect

__all__ = [
    "BuildError",
    "Container",
    "Engine",
    "EngineCommand",
    "ExitError",
    "Image",
    "RunResult",
    "__version__",
    "build",
    "connect",
]

_HOMES = {
    "build": "sampan.client.engine",
    "BuildError": "sampan.client.building",
    "Image": "sampan.client.building",
    "connect": "sampan.client.engine",
    "Engine": "sampan.client.engine",
    "EngineCommand": "sampan.client.autostart",
    "Container": "sampan.client.containers",
    "ExitError": "sampan.client.containers",
    "RunResult": "sampan.client.containers",
}


def __getattr__(name: str) -> object:
    """Load a public name from its home at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sampan' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""What handlers give back."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from sampan.engineapi.version import API_VERSION
from sampan.version import __version__

_encoder = msgspec.json.Encoder()


def json(value: Any, status: int = 200) -> web.Response:
    """A JSON answer: msgspec structs, dicts, lists. Ends in a newline, as Go's encoder writes it."""
    return web.Response(status=status, body=_encoder.encode(value) + b"\n", content_type="application/json")


def empty(status: int = 204) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status)


def text(value: str, status: int = 200) -> web.Response:
    """A plain-text answer."""
    return web.Response(status=status, text=value)


def standard_headers() -> dict[str, str]:
    """What every answer of Docker's API carries."""
    return {
        "Api-Version": "{}.{}".format(*API_VERSION),
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Server": f"Sampan/{__version__} (linux)",
    }

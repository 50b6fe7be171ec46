"""What every verb gets: the engine, and where output goes."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sampan.client.api import Api, open_api

if TYPE_CHECKING:
    from sampan.client.endpoint import TlsFiles
    from sampan.client.engine import Engine


class Session:
    """One run of the command."""

    def __init__(self, host: str | None, context: str | None, tls: TlsFiles | None) -> None:
        self._host, self._context, self._tls = host, context, tls
        self.failed = False
        """Set by `complain`: the exit code will be 1."""

    @cached_property
    def api(self) -> Api:
        """The engine's API; the engine is started when it may be and none answers."""
        return open_api(self._host, context=self._context, tls=self._tls)

    @cached_property
    def engine(self) -> Engine:
        """The same as an object."""
        from sampan.client.engine import Engine

        return Engine(self.api)

    def call_beside(self, path: str, query: dict[str, Any]) -> None:
        """A POST over a connection of its own: from a signal handler, while `api` is in the middle of something."""
        api = open_api(self._host, context=self._context, tls=self._tls)
        try:
            api.call("POST", path, query)
        finally:
            api.close()

    def call(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """A request whose answer is JSON."""
        return self.api.call(method, path, query, body)

    def complain(self, error: object) -> None:
        """Report an error and go on with the next argument, as docker does."""
        from sampan.cli.errors import describe

        sys.stdout.flush()
        print(describe(error) if isinstance(error, Exception) else error, file=sys.stderr)
        self.failed = True

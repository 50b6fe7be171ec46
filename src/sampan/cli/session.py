"""What every verb gets: the engine, and where output goes."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sampan.client.engine import Engine, connect

if TYPE_CHECKING:
    from sampan.client.api import Api
    from sampan.client.endpoint import TlsFiles


class Session:
    """One run of the command."""

    def __init__(self, host: str | None, context: str | None, tls: TlsFiles | None) -> None:
        self._host, self._context, self._tls = host, context, tls
        self.failed = False
        """Set by `complain`: the exit code will be 1."""

    @cached_property
    def engine(self) -> Engine:
        """The engine; it is started when it may be and none answers."""
        return connect(self._host, context=self._context, tls=self._tls)

    @property
    def api(self) -> Api:
        return self.engine.api

    def second_engine(self) -> Engine:
        """A further connection, for a thread or a signal handler."""
        return connect(self._host, context=self._context, tls=self._tls)

    def call(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """A request whose answer is JSON."""
        return self.api.call(method, path, query, body)

    def complain(self, error: object) -> None:
        """Report an error and go on with the next argument, as docker does."""
        from sampan.cli.errors import describe

        sys.stdout.flush()
        print(describe(error) if isinstance(error, Exception) else error, file=sys.stderr)
        self.failed = True

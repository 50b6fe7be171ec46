"""Every error that Sampan raises on purpose, by kind.

One hierarchy for the whole product. A service raises the kind; only the faces turn a kind into
something outside: `sampan.api.errors` into an HTTP status, `sampan.cli.errors` into an exit code.
The message is what the user reads, so it names what was wrong and where, in Docker's words wherever
Docker has words for it.

The kinds are those of moby's and containerd's `errdefs` packages, so that each has exactly one HTTP
status in Docker's API.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = (
    False  # as a type checker sees it: every program imports this module, and few of them `typing`
)
if TYPE_CHECKING:
    from typing import TypeGuard


class SampanError(Exception):
    """Root of all errors raised on purpose. `str(error)` is one line for the user."""


class InvalidParameter(SampanError):
    """The request itself is wrong, whatever the state of the engine (HTTP 400)."""


class Unauthorized(SampanError):
    """The caller did not prove who it is (HTTP 401)."""


class Forbidden(SampanError):
    """Known caller or not, this is never allowed (HTTP 403)."""


class NotFound(SampanError):
    """The named object does not exist (HTTP 404)."""


class Conflict(SampanError):
    """The object's present state does not allow it: name taken, in use, not running (HTTP 409)."""


class TooManyRequests(SampanError):
    """A limit on how often was reached; later it works again (HTTP 429)."""


class NotModified(SampanError):
    """Nothing to do: already started, already stopped (HTTP 304, no body)."""


class SystemFailure(SampanError):
    """The machine or the engine failed, not the request: a full disk, a failed mount (HTTP 500)."""


class DataLoss(SystemFailure):
    """Stored data is not what its digest or record says (HTTP 500)."""


class NotSupported(SampanError):
    """Well-formed, but Sampan does not have it (HTTP 501)."""


class Unavailable(SampanError):
    """A service behind this one did not answer; trying again may help (HTTP 503)."""


class Cancelled(SampanError):
    """The caller went away or took the request back."""


def reason_of(error: OSError) -> str:
    """What the system says, in small letters, as Go words it: "no space left on device"."""
    return (error.strerror or str(error)).lower()


def no_room(error: BaseException) -> TypeGuard[OSError]:
    """A full disk or an exhausted quota: nobody's mistake, wherever it strikes."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)

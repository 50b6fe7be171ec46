"""Points at which a test can make the process end as a crash would.

Between two steps that change something outside the process (a row, a directory, a link, a process) stands
`point("create.row-written")`. A process whose environment says `SAMPAN_FAULT_POINT=create.row-written` kills itself there,
so that the next start finds exactly that much done. In production it is one comparison of two strings.

The points are listed in docs/design/recovery.md; tests/faults kills an engine at each of them.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("SAMPAN_FAULT_POINT")


def point(name: str) -> None:
    """Die here (SIGKILL: no handler, no clean-up) when a test armed this point; else nothing."""
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)

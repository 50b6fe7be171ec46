"""The program inside a room: starts an engine, plays the scenarios whose names it reads, and answers each with its outcome.

::

    room.sh python -m parity.player sampan     # then one scenario's name per line; one line of JSON per outcome

An engine that did not become empty after a scenario, or died of it, is replaced by a new one.
"""

from __future__ import annotations

import json
import sys

from parity import engines, scenario
from parity.playing import play
from parity.reset import Reset


def main(name: str) -> None:
    """Until the end of the input."""
    known = {each.key: each for each in scenario.load()}
    asked = iter(sys.stdin.readline, "")
    key = next(asked, None)
    while key is not None:
        with engines.running(name) as process:
            reset = Reset(str(engines.SOCKET))
            while key is not None:
                outcome = play(known[key.rstrip("\n")], str(engines.SOCKET))
                clean = reset.to_start() and process.poll() is None
                print(
                    json.dumps({"outcome": outcome, "complaint": "" if clean else reset.complaint}),
                    flush=True,
                )
                key = next(asked, None)
                if not clean:
                    break


if __name__ == "__main__":
    main(sys.argv[1])

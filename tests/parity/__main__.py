"""The command behind `bin/test parity`.

::

    bin/test parity [check] [TEXT]         # play on Sampan, compare with the peers' recorded answers
    bin/test parity record PEER [TEXT]     # play on a real dockerd (dockerd, docker.io), keep the answers in recordings/PEER/
    bin/test parity missing PEER           # the same for the scenarios that have no answer of the peer yet, or other steps now
    bin/test parity accept [TEXT]          # keep Sampan's answers to the scenarios of docs/differences.md
    bin/test parity show WHO KEY           # one kept answer

TEXT chooses scenarios whose name contains it. PARITY_ROOMS engines play at once, PARITY_TIMES times over.
"""

from __future__ import annotations

import json
import os
import sys
import time

from parity import engines, recordings, scenario
from parity.compare import known_differences
from parity.players import play_all
from parity.verdict import Judge

ROOMS = int(os.environ.get("PARITY_ROOMS") or 3)
TIMES = int(os.environ.get("PARITY_TIMES") or 1)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["record", peer, *text]:
            return record(peer, _chosen(text))
        case ["missing", peer]:
            return record(peer, [each for each in scenario.load() if not _is_recorded(peer, each)])
        case ["accept", *text]:
            known = known_differences()
            recordings.forget(engines.OURS, {each.key for each in scenario.load() if each.key not in known})
            return record(engines.OURS, [each for each in _chosen(text) if each.key in known])
        case ["show", who, *text]:
            file, _, title = " ".join(text).partition(": ")
            print(json.dumps(recordings.recorded(who, file).get(title), indent=1, ensure_ascii=False))
            return 0
        case ["check", *text] | [*text] if not text or not text[0].startswith("-"):
            return max(check(_chosen(text)) for _ in range(TIMES))
    print(__doc__)
    return 2


def _chosen(text: list[str]) -> list[scenario.Scenario]:
    return [each for each in scenario.load() if " ".join(text) in each.key]


def _is_recorded(peer: str, wanted: scenario.Scenario) -> bool:
    outcome = recordings.recorded(peer, wanted.file).get(wanted.title)
    return outcome is not None and [each["step"] for each in outcome] == [each.text for each in wanted.steps]


def record(who: str, chosen: list[scenario.Scenario]) -> int:
    """Play on an engine and keep what it answers."""
    chosen = [each for each in chosen if not each.peers or who in (*each.peers, engines.OURS)]

    def keep(played: scenario.Scenario, outcome: recordings.Outcome) -> None:
        print(played.key, flush=True)
        recordings.keep(who, played, outcome)

    play_all(who, chosen, ROOMS, keep)
    return 0


def check(chosen: list[scenario.Scenario]) -> int:
    """Play on Sampan and print what differs, then the count."""
    judge = Judge()
    began = time.monotonic()

    def hear(played: scenario.Scenario, outcome: recordings.Outcome) -> None:
        heard = len(judge.findings)
        judge.hear(played, outcome)
        for finding in judge.findings[heard:]:
            print(f"\n{finding}", flush=True)

    play_all(engines.OURS, chosen, ROOMS, hear)
    print(f"\n{judge.table()}\n{time.monotonic() - began:.0f} s")
    return 1 if judge.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The command behind `bin/test parity`.

::

    python -m parity record dockerd [TEXT]     # play on a real dockerd, keep the answers in recordings/dockerd/
    python -m parity check [TEXT]              # play on Sampan, compare with the current dockerd's answers
    python -m parity show PEER KEY             # one recorded scenario

TEXT chooses scenarios whose name contains it.
"""

from __future__ import annotations

import fcntl
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from parity import peers, scenario
from parity.compare import compare, known_differences
from parity.playing import play
from running_engine import RunningEngine

RECORDINGS = Path(__file__).parent / "recordings"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["record", peer, *text]:
            return record(peer, " ".join(text))
        case ["check", *text]:
            return check(" ".join(text))
        case ["show", peer, *text]:
            file, _, title = " ".join(text).partition(": ")
            print(json.dumps(recorded(peer, file).get(title), indent=1, ensure_ascii=False))
            return 0
    print(__doc__)
    return 2


def recorded(peer: str, file: str) -> dict[str, Any]:
    """The kept answers of a peer to one scenario file, by scenario."""
    path = RECORDINGS / peer / f"{file}.json"
    answers: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return answers


def record(peer: str, text: str) -> int:
    """Play the chosen scenarios on a peer. One recording at a time on a machine: peers share docker0."""
    chosen = [each for each in scenario.load() if text in each.key and (not each.peers or peer in each.peers)]
    with open("/run/lock/sampan-parity", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with peers.running(peer) as socket:
            for each in chosen:
                print(each.key, flush=True)
                keep(peer, each, play(each, socket))
    return 0


def keep(peer: str, played: scenario.Scenario, outcome: list[dict[str, Any]]) -> None:
    """Write one answer down, and drop those whose scenario is gone."""
    known = {each.title for each in scenario.load() if each.file == played.file}
    answers = recorded(peer, played.file) | {played.title: outcome}
    path = RECORDINGS / peer / f"{played.file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {title: answers[title] for title in sorted(answers) if title in known}
    path.write_text(json.dumps(kept, indent=0, ensure_ascii=False) + "\n")


def check(text: str) -> int:
    known = known_differences()
    equal = different = expected = 0
    with tempfile.TemporaryDirectory(prefix="parity-") as directory:
        engine = RunningEngine(Path(directory))
        engine.start()
        try:
            for each in scenario.load():
                theirs = recorded("dockerd", each.file).get(each.title)
                if text not in each.key or theirs is None:
                    continue
                differences = compare(theirs, play(each, str(engine.socket)))
                if not differences:
                    equal += 1
                elif each.key in known:
                    expected += 1
                else:
                    different += 1
                    print(f"\n## {each.key}", *differences, sep="\n", flush=True)
        finally:
            engine.close()
    print(f"\n{equal} equal, {expected} different on purpose (docs/differences.md), {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

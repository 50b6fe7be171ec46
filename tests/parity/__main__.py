"""The command behind `bin/test parity`.

::

    python -m parity record dockerd [TEXT]     # play on a real dockerd, keep the answers in recordings/
    python -m parity check [TEXT]              # play on Sampan, compare with the recordings
    python -m parity show PEER KEY             # one recorded scenario

TEXT chooses scenarios whose name contains it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from busybox_image import busybox_archive
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
            print(json.dumps(recorded(peer).get(" ".join(text)), indent=1, ensure_ascii=False))
            return 0
    print(__doc__)
    return 2


def recorded(peer: str) -> dict[str, Any]:
    """The kept answers of a peer, by scenario."""
    path = RECORDINGS / f"{peer}.json"
    answers: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return answers


def record(peer: str, text: str) -> int:
    chosen = [each for each in scenario.load() if text in each.key and (not each.peers or peer in each.peers)]
    answers = recorded(peer) if text else {}
    with peers.running(peer) as socket:
        load_base_image(socket)
        for each in chosen:
            print(each.key, flush=True)
            answers[each.key] = play(each, socket)
    RECORDINGS.mkdir(exist_ok=True)
    (RECORDINGS / f"{peer}.json").write_text(
        json.dumps(dict(sorted(answers.items())), indent=0, ensure_ascii=False) + "\n"
    )
    return 0


def check(text: str) -> int:
    answers, known = recorded("dockerd"), known_differences()
    equal = different = expected = 0
    with tempfile.TemporaryDirectory(prefix="parity-") as directory:
        engine = RunningEngine(Path(directory))
        engine.start()
        try:
            load_base_image(str(engine.socket))
            for each in scenario.load():
                if text not in each.key or each.key not in answers:
                    continue
                differences = compare(answers[each.key], play(each, str(engine.socket)))
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


def load_base_image(socket: str) -> None:
    subprocess.run(
        ["docker", "-H", f"unix://{socket}", "load"], input=busybox_archive(), check=True, capture_output=True, timeout=120
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

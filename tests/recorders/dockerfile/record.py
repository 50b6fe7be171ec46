"""Ask BuildKit's frontend (built from the Go module proxy) about the corpus, and write its answers:
`PYTHONPATH=tests python tests/recorders/dockerfile/record.py`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from dockerfile_corpus import ANSWERS, questions


def main() -> None:
    """Run the recorder."""
    asked = json.dumps(dict(questions()))
    done = subprocess.run(
        ["go", "run", "."], cwd=ANSWERS.parent, input=asked, capture_output=True, text=True, check=True
    )
    answers = {name: _shortened(answer) for name, answer in sorted(json.loads(done.stdout).items())}
    ANSWERS.write_text(json.dumps(answers, indent=1) + "\n")


def _shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """Without the graph that brings the Dockerfile, which is another one here."""
    if "result.json" in answer["metadata"]:
        found = json.loads(answer["metadata"]["result.json"])
        if isinstance(found, dict):
            for source in found.get("sources", ()):
                if isinstance(source, dict):
                    source.pop("definition", None)
            answer["metadata"]["result.json"] = indented(found)
    return answer


def indented(value: Any) -> str:
    """As Go's encoder writes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


if __name__ == "__main__":
    main()

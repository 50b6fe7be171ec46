"""Make two engines' answers comparable: what must differ gets a name of its kind and order, everything else stays to the letter."""

from __future__ import annotations

import re
from collections.abc import Callable

_RULES: list[tuple[str, re.Pattern[str]]] = [
    ("digest", re.compile(r"sha256:[0-9a-f]{12,64}")),
    ("id", re.compile(r"\b[0-9a-f]{64}\b")),
    (
        "time",
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d))?(?: [A-Z]{3,4})?"),
    ),
    ("mac", re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")),
    ("bridge", re.compile(r"\bbr-[0-9a-f]{12}\b")),
    # One id in three hundred has no letter among the first twelve.
    ("short", re.compile(r"\b(?!9{12})(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b")),
    ("addr6", re.compile(r"\bfe80::[0-9a-f:]+\b|\bfd[0-9a-f]{2}:[0-9a-f:]+\b")),
]
_ADDRESS = re.compile(r"\b(10|172|192)\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\b")
_PLAIN: list[tuple[re.Pattern[str], str]] = [
    (
        re.compile(
            r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d  ?(?:\d\d:\d\d|\d{4})(?![:\d])"
        ),
        "<ls time>",
    ),
    (
        re.compile(
            r"\b(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute|hour|day)s?)( ago)?"
        ),
        r"<duration>\1",
    ),
    (re.compile(r"(:|->|=|\b)(3[2-9]\d{3}|[45]\d{4}|60\d{3})\b(?=->|/|$|\n|\s)"), r"\1<port>"),
    (
        re.compile(r"invalid JSON: (?:json: cannot unmarshal|Expected `)[^\"\\\n]*"),
        "invalid JSON: <wrong type>",
    ),
    (re.compile(r"\b(?:pid|Pid)\W+\d+"), "pid <n>"),
    # How runc called mount(2), down to a descriptor's number; what failed stands before and after it.
    (re.compile(r"mount src=\S+, dst=\S+, dstFd=\S+, flags=[A-Z_|]+(?:, data=[^:]*)?: "), ""),
    (re.compile(r"/mnt/engine/(?:data|run)"), "<root>"),
    (re.compile(r"<root>/buildkit/[\w-]+/cachemounts/buildkit\d+"), ""),
    (re.compile(r"/mnt/work"), "<work>"),
    # Sampan's own processes: where the interpreter is, and which descriptor it was given, differ from machine to machine.
    (
        re.compile(r"/[^\s\"]*/python[\d.]* -I -m sampan\.zygote --socket \d+"),
        "<python> -I -m sampan.zygote --socket <n>",
    ),
    (re.compile(r"containerd-mount\d+"), "<mount>"),
    (re.compile(r"\b(master|shared|propagate_from):\d+"), r"\1:<n>"),
    (re.compile(r"time \(1\d{9}\)"), "time (<unix>)"),
    (re.compile(r"\bveth[0-9a-f]{7}\b"), "<veth>"),
    # JSON that is none: each decoder has its own way to say where.
    (
        re.compile(
            r"JSON is malformed: [^\"\n]*|Input data was truncated"
            r"|unexpected end of JSON input|invalid character '(?:[^']|\\')+' (?:in|looking|after) [^\"\n]*"
        ),
        "<malformed JSON>",
    ),
]
_RANDOM_NAME = re.compile(
    r"""(name["']?[:=] ?["']?|endpoint |container |AS /(?=\w+/))[a-z]+_[a-z]+\d?(?![\w.-])"""
)
"""The name that an engine picks, where a name is expected: words with an underline are common elsewhere."""
_DEFAULT_BRIDGE = re.compile(r"172\.31\.255|10\.2[0-3]\d\.\d+")
"""The subnets that peers and test engines give their default bridge."""


def words(text: str) -> str:
    """What needs no memory of the scenario's other steps; again is as good as once, so recordings from before a rule get it too."""
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return _RANDOM_NAME.sub(r"\1<random name>", text)


class Normaliser:
    """One per scenario: the same value gets the same name in all of its steps."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        """The text with everything that differs from run to run named."""
        for kind, pattern in _RULES:
            text = pattern.sub(self._namer(kind), text)
        text = _ADDRESS.sub(self._address, text)
        return words(text)

    def _namer(self, kind: str) -> Callable[[re.Match[str]], str]:
        if kind == "time":
            return lambda match: "<zero time>" if match[0].startswith("0001-01-01") else "<time>"
        return lambda match: self._name(kind, match[0])

    def _name(self, kind: str, value: str) -> str:
        if kind == "short" and value not in self._names:
            # The short form of an id that was seen whole is that id.
            for known, name in self._names.items():
                if known.removeprefix("sha256:").startswith(value):
                    return name.replace("<", "<short ")
        if kind in ("digest", "mac", "addr6"):
            return f"<{kind}>"
        if value not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._names[value] = f"<{kind} {self._counts[kind]}>"
        return self._names[value]

    def _address(self, match: re.Match[str]) -> str:
        """Private addresses keep their last number: the gateway is .1 everywhere.

        On the default bridge other numbers depend on which containers there have been before.
        """
        if match[4] not in ("0", "1", "255") and _DEFAULT_BRIDGE.match(match[0]):
            return "<net>.<host>"
        return f"<net>.{match[4]}"


def squeeze(text: str) -> str:
    """Columns of tables are as wide as their ids and names: runs of blanks count as two."""
    return re.sub(r"[ \t]{2,}", "  ", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))

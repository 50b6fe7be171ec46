"""Random Dockerfiles: well-formed or nearly so, full of what build checks look at.

No triggers are among it: BuildKit looks at those of some stages only (docs/differences.md).
"""

from __future__ import annotations

from random import Random

from dockerfile_corpus import Case

_NAMES = ("A", "B", "NAME", "NAMES", "PATH", "TARGETARCH", "FROM_IMAGE", "HTTP_PROXY", "API_KEY", "C1")
_USES = (
    *("$%s", "${%s}", "${%s:-d}", "${%s:+p}", "${%s-x}", '"$%s"', "'$%s'", "\\$%s", "x${%s}y"),
    *("${%s%%%%a*}", "${%s#a}", "${%s/a/b}"),
)
_COMMENTS = (
    *("# words", "#", "", "# A is", "# NAME what", "# one the first"),
    *("# check=skip=all", "# check=skip=UndefinedVar,JSONArgsRecommended", "# check=skip=nothing;error=1"),
)
_HEADS = (
    *(
        "# check=error=true",
        "# check=skip=UndefinedVar",
        "# check=experimental=all",
        "# foo=bar\n# check=skip=all",
    ),
    *("#check=skip=all;error=true", "# check=error=true;skip=JSONArgsRecommended, UndefinedVar"),
    "# syntax=x\n# check=experimental=all;error=true",
)
_PLATFORMS = (
    *(
        "linux/amd64",
        "$BUILDPLATFORM",
        "$TARGETPLATFORM",
        "linux/arm64",
        "${TARGETOS}/arm64",
        "${TARGETPLATFORM:-x}",
    ),
)
_BASES = ("busybox", "busybox", "foreign", "shelled", "placed", "${IMG:-busybox}")
_STAGES = ("one", "two", "Three", "context", "linux-x", "one")
_REST = {
    "CMD": ("echo x", '["a"]', '["$A"]', "['a']", "[]"),
    "ENTRYPOINT": ("echo x", '["a"]', "exec $A"),
    "HEALTHCHECK": ("NONE", "CMD x", '--interval=5s CMD ["x"]'),
    "EXPOSE": ("80", "80/TCP", "${P:-80}", "1-3", "8080:80", "1.2.3.4:1:2/udp", "80 81/Sctp", "[::1]:80:80"),
    "LABEL": ("a=b", "a b", "a=$A b=${B}", '"a b"=c'),
    "VOLUME": ("/a /$B", '["/a","/$C"]'),
    "WORKDIR": ("a", "/b", "$A", "x/$B", "/$C"),
    "STOPSIGNAL": ("9", "SIGTERM", "${S:-9}"),
    "SHELL": ('["/bin/sh","-c"]',),
    "RUN": (
        *(
            "a \\\n\n b",
            "a \\\n# c\n b",
            "<<X\n$A\nX",
            "cat <<X\n$A\nX",
            "--mount=type=cache,target=/c/$A true",
        ),
        *("--mount=type=secret,id=s true", "--mount=type=secret,id=$A,target=/t,required true"),
        *("--mount=type=ssh,id=k,required=true true", "--mount=type=bind,from=busybox,target=/x true"),
    ),
}
_COPIES = (
    *(
        "",
        "--chown=$A:$B ",
        "--from=busybox ",
        "--link ",
        "--chmod=${MODE:-644} ",
        "--parents ",
        "--exclude=$A ",
    ),
)
_INLINE = ("COPY <<X /d/\n$A \"$B\" '$C'\nX", "COPY <<'X' /d\n$A\nX", "ADD <<-X /d\n\t${A}\n\tX")
_IGNORED = ("", "", "", "*.txt\ndir\n", "*\n", "*.md\n!README.md\n")


def random_case(random: Random) -> Case:
    """One of them, with what is asked about it."""
    dockerfile = _Generator(random)
    text = dockerfile.text()
    options = {"cmdline": "itself"}
    if random.random() < 0.2:
        options["build-arg:A"] = "1"
    if dockerfile.named and random.random() < 0.3:
        options["target"] = random.choice(dockerfile.named)
    return Case(text, options, random.choice(_IGNORED))


class _Generator:
    def __init__(self, random: Random) -> None:
        self._random = random
        self.named: list[str] = []

    def text(self) -> str:
        random = self._random
        parts = (
            [random.choice(_HEADS), ""] if random.random() < 0.6 else []
        )  # no comment below is a directive
        for _ in range(random.randrange(4)):
            parts += [*self._comment(), self._outer_argument()]
        for _ in range(random.randint(1, 3)):
            parts += [*self._comment(), self._origin()]
            for _ in range(random.randrange(6)):
                parts += [*self._comment(), self._instruction()]
        return "\n".join(parts) + "\n"

    def _comment(self) -> list[str]:
        return [self._random.choice(_COMMENTS)] if self._random.random() < 0.5 else []

    def _cased(self, keyword: str) -> str:
        return self._random.choice((keyword, keyword, keyword, keyword.lower(), keyword.capitalize()))

    def _use(self) -> str:
        return self._random.choice(_USES) % self._random.choice(_NAMES)

    def _word(self) -> str:
        return self._random.choice((self._use(), "w", "/abs/x", "a.txt", "dir/", ".", "/", "x_y", "*.md"))

    def _outer_argument(self) -> str:
        name = self._random.choice(("IMG=busybox", "A=$A", "A=x$B", "B=1", "NAME=$PATH", "A", "API_KEY=1"))
        return f"{self._cased('ARG')} {name}"

    def _origin(self) -> str:
        random = self._random
        platform = f"--platform={random.choice(_PLATFORMS)} " if random.random() < 0.4 else ""
        base = random.choice((*_BASES, *self.named[:1]))
        name = random.choice(_STAGES) if random.random() < 0.6 else ""
        if name:
            self.named.append(name.lower())
            name = f" {random.choice(('AS', 'as', 'As'))} {name}"
        return f"{self._cased('FROM')} {platform}{base}{name}"

    def _instruction(self) -> str:
        random = self._random
        match random.randrange(8):
            case 0:
                pairs = (f"{random.choice(_NAMES)}={self._word()}" for _ in range(random.randint(1, 3)))
                return f"{self._cased('ENV')} {' '.join(pairs)}"
            case 1:
                return f"{self._cased('ENV')} {random.choice(_NAMES)} {self._word()} {self._word()}"
            case 2:
                names = random.sample(_NAMES, 2)
                return f"{self._cased('ARG')} {names[0]}={self._word()} {names[1]}"
            case 3:
                flags = random.choice(_COPIES)
                return f"{self._cased('COPY')} {flags}{self._word()} {self._word()} /d/"
            case 4:
                source = random.choice((self._word(), "https://e.org/$A/f", "https://e.org/a/b.git"))
                return f"{self._cased('ADD')} {source} {self._word()}"
            case 5:
                return random.choice(_INLINE)
            case 6:
                keyword = self._cased(random.choice(("RUN", "USER", "MAINTAINER")))
                return f"{keyword} x {self._use()}"
        keyword = random.choice(list(_REST))
        return f"{self._cased(keyword)} {random.choice(_REST[keyword])}"

"""What is built: Dockerfiles and contexts, made anew for each round, so that no cache knows them."""

from __future__ import annotations

import os
import random
import secrets
import shutil
from pathlib import Path

from benchmarks.material import BUSYBOX

INSTRUCTIONS = 20
STAGES = 8
FILES = 20_000
MEGABYTES = 200

_TWENTY = """\
FROM {base}
ENV ROUND={salt}
ARG VERSION=1
LABEL version=$VERSION
WORKDIR /app
RUN busybox mkdir bin data
COPY packages.txt ./
RUN cat packages.txt > data/installed
RUN echo one > data/one
COPY config ./config
ENV MODE=production
RUN cat config/* > data/config
RUN echo two > data/two
COPY src ./src
RUN cat src/* > bin/program
RUN busybox chmod 755 bin/program
EXPOSE 8080
USER 1000
ENTRYPOINT ["/app/bin/program"]
CMD ["--serve"]
"""


class Project:
    """A directory with a Dockerfile."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def write(self, path: str, text: str) -> None:
        """A file of the context, with the directories above it."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def remove(self) -> None:
        shutil.rmtree(self.directory)


def salt() -> str:
    """What was never built before."""
    return secrets.token_hex(8)


def twenty_instructions(directory: Path) -> Project:
    """A small application as one is usually written: six steps that run, three that copy, settings."""
    project = Project(directory)
    project.write("Dockerfile", _TWENTY.format(base=BUSYBOX, salt=salt()))
    project.write("packages.txt", "busybox\n" * 20)
    for number in range(4):
        project.write(f"config/{number}.conf", f"number = {number}\n" * 20)
    for number in range(20):
        project.write(f"src/{number}.sh", f"echo {number}\n" * 50)
    return project


def touch_source(project: Project) -> None:
    """Change one source file of the twenty instructions' context."""
    project.write("src/7.sh", f"echo {salt()}\n")


def many_files(directory: Path, files: int = FILES) -> Project:
    """A context of small files, a hundred to a directory, copied whole."""
    project = Project(directory)
    project.write("Dockerfile", f"FROM {BUSYBOX}\nCOPY . /app\n")
    content = random.Random(salt())
    for number in range(files):
        if number % 100 == 0:
            parent = directory / "files" / f"{number // 100:03}"
            parent.mkdir(parents=True)
        (parent / f"{number:05}").write_bytes(content.randbytes(1000))
    return project


def touch_one_of_many(project: Project) -> None:
    """Change one file of a context of many."""
    project.write("files/000/00007", salt())


def independent_stages(directory: Path) -> Project:
    """Stages that need nothing of one another, and a last one that takes a file of each."""
    project = Project(directory)
    lines = []
    for number in range(STAGES):
        lines += [f"FROM {BUSYBOX} AS stage{number}", f"RUN echo {salt()} > /made", "RUN cat /made > /out"]
    lines.append(f"FROM {BUSYBOX}")
    lines += [f"COPY --from=stage{number} /out /out{number}" for number in range(STAGES)]
    project.write("Dockerfile", "\n".join(lines) + "\n")
    return project


def big_stage(directory: Path, megabytes: int = MEGABYTES) -> Project:
    """A stage `made` with files of 10 MB that no compression makes smaller, and a last one that copies them."""
    project = Project(directory)
    loop = "for n in $(busybox seq {count}); do head -c 10000000 /dev/urandom > /made/$n; done"
    project.write(
        "Dockerfile",
        f"FROM {BUSYBOX} AS made\n"
        f"RUN echo {salt()} && busybox mkdir /made && {loop.format(count=max(1, megabytes // 10))}\n"
        f"FROM {BUSYBOX}\nCOPY --from=made /made /copied\n",
    )
    return project


def size(project: Project) -> int:
    """Bytes of all files of the context."""
    return sum(
        os.stat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(project.directory)
        for name in names
    )

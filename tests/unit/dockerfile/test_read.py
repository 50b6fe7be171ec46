"""Whole files."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.instructions import (
    Add,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Onbuild,
    Run,
    Shell,
    Volume,
)
from sampan.dockerfile.mounts import Mount, read_mount
from sampan.dockerfile.source import DockerfileError, Place
from sampan.dockerfile.stages import Dockerfile, read


def file(text: str) -> Dockerfile:
    return read(textwrap.dedent(text))


def only(text: str):  # type: ignore[no-untyped-def]
    """The one instruction after a FROM."""
    (instruction,) = read(f"FROM scratch\n{text}\n").stages[0].instructions
    return instruction


def mistake(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        read(text)
    return caught.value


def test_a_whole_file() -> None:
    read_ = file(
        """\
        # syntax=docker/dockerfile:1
        # escape=`
        ARG VERSION=12
        FROM debian:${VERSION} AS Base
        RUN apt-get update && `
            # a comment between
            apt-get install -y `

            curl
        FROM --platform=$BUILDPLATFORM base
        COPY --from=base --chown=1:2 --link a b /c/
        CMD ["sh", "-c", "true"]
        """
    )
    assert (read_.directives.syntax, read_.directives.escape) == ("docker/dockerfile:1", "`")
    assert read_.arguments[0].arguments == (("VERSION", "12"),)
    first, second = read_.stages
    assert (first.name, first.origin.base) == ("base", "debian:${VERSION}")
    (run,) = first.instructions
    assert isinstance(run, Run)
    assert run.command.words[0].split() == ["apt-get", "update", "&&", "apt-get", "install", "-y", "curl"]
    assert (run.place.first, run.place.last) == (5, 9)
    assert [place for _, place in read_.gaps] == [Place(9, 9)]
    assert second.origin.platform == "$BUILDPLATFORM"
    copy, command = second.instructions
    assert isinstance(copy, Copy)
    assert (copy.from_, copy.chown, copy.link, copy.sources, copy.destination) == (
        "base",
        "1:2",
        True,
        ("a", "b"),
        "/c/",
    )
    assert isinstance(command, Cmd) and command.command == Command(("sh", "-c", "true"), shell=False)
    assert [stage.index for stage in read_.needed(second)] == [0, 1]


def test_heredocs() -> None:
    run, plain, copy = (
        file(
            """\
        FROM busybox
        RUN <<EOF
        echo one
        # not a comment
        EOF
        RUN python3 <<-'END' > /x
        \tprint("$x")
        \tEND
        COPY <<a.txt <<"b.txt" /dir/
        A
        a.txt
        B
        b.txt
        """
        )
        .stages[0]
        .instructions
    )
    assert isinstance(run, Run) and isinstance(plain, Run) and isinstance(copy, Copy)
    assert run.heredocs[0].content == "echo one\n# not a comment\n" and run.heredocs[0].expands
    assert plain.heredocs[0].text == 'print("$x")\n' and not plain.heredocs[0].expands
    assert [(each.name, each.content, each.expands) for each in copy.files] == [
        ("a.txt", "A\n", True),
        ("b.txt", "B\n", False),
    ]
    assert copy.sources == ("<<a.txt", '<<"b.txt"')


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=b c=d", (("a", "b"), ("c", "d"))),
        ('ENV a="b c" d=e\\ f', (("a", '"b c"'), ("d", "e\\ f"))),
        ("ENV a b c", (("a", "b c"),)),
        ("ENV a=", (("a", ""),)),
        ("env a='x=y'", (("a", "'x=y'"),)),
    ],
)
def test_environment(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    instruction = only(text)
    assert isinstance(instruction, Env) and instruction.pairs == pairs


def test_instructions() -> None:
    assert only("LABEL a=b").pairs == (("a", "b"),) and isinstance(only("LABEL a=b"), Label)
    assert only("EXPOSE 80 53/udp").ports == ("53/udp", "80") and isinstance(only("EXPOSE 80"), Expose)
    assert only('VOLUME ["/a b", "/c"]').paths == ("/a b", "/c") and isinstance(only("VOLUME /a"), Volume)
    assert only('SHELL ["/bin/bash", "-c"]').words == ("/bin/bash", "-c") and isinstance(
        only('SHELL ["a"]'), Shell
    )
    assert only("ENTRYPOINT []").command.words == () and isinstance(only("ENTRYPOINT a"), Entrypoint)
    assert only("CMD [broken").command == Command(("[broken",), shell=True)
    add = only("ADD --checksum=sha256:0 --keep-git-dir=true --unpack=false https://x/y /z")
    assert isinstance(add, Add) and (add.checksum, add.keep_git_dir, add.unpack) == ("sha256:0", True, False)
    assert isinstance(only("ONBUILD RUN make"), Onbuild) and only("onbuild run make").trigger == "run make"
    health = only("HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f localhost")
    assert isinstance(health, Healthcheck)
    assert (health.test, health.interval, health.retries) == (
        ("CMD-SHELL", "curl -f localhost"),
        90 * 10**9,
        3,
    )
    assert only('HEALTHCHECK CMD ["a", "b"]').test == ("CMD", "a", "b")
    assert only("HEALTHCHECK NONE").test == ("NONE",)
    run = only("RUN --mount=type=cache,target=/c --network=none --security=insecure --device=a=b make")
    assert (run.mounts, run.network, run.security, run.devices) == (
        ("type=cache,target=/c",),
        "none",
        "insecure",
        ("a=b",),
    )
    assert only("COPY --exclude=*.md --exclude=x --parents a b /c/").excludes == ("*.md", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file with no instructions"),
        ("# only\n\n", "file with no instructions"),
        ("FROM a\nRUNN x", "on line 2: unknown instruction: RUNN (did you mean RUN?)"),
        ("FRM a", "unknown instruction: FRM (did you mean FROM?)"),
        ("RUN x", "no build stage in current context"),
        ("ARG a", "dockerfile contains no stages to build"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 'invalid name for build stage: "1x"'),
        ("FROM a\nCOPY x", "COPY requires at least two arguments, but only one was provided"),
        ("FROM a\nCOPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("FROM a\nCOPY --from a b", "missing a value on flag: --from"),
        ("FROM a\nCOPY --from=a --from=b x y", "duplicate flag specified: --from"),
        ("FROM a\nCOPY --link=maybe x y", "expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nENV", "ENV requires at least one argument"),
        ("FROM a\nENV a", "ENV must have two arguments"),
        ("FROM a\nENV a=b c", 'can\'t find = in "c"'),
        ("FROM a\nENV =b", "ENV names can not be blank"),
        ("FROM a\nSHELL bash", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nCMD [1]", "arrays must be comprised of strings only"),
        ("FROM a\nONBUILD FROM b", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN b", "Chaining ONBUILD"),
        ("FROM a\nHEALTHCHECK CDM x", 'Unknown type "CDM" in HEALTHCHECK (try CMD) (did you mean CMD?)'),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", 'invalid duration "x"'),
        ("FROM a\nRUN <<EOF\nx", "unterminated heredoc"),
        ("FROM a\nRUN --mount=from=$X,target=/x y", "'from' doesn't support variable expansion"),
        ("FROM a\nRUN --network=hots y", 'invalid network mode "hots" (did you mean host?)'),
        ("FROM a\nUSER", "USER requires exactly one argument"),
        ("FROM a\nUSER --x y", "unknown flag: --x"),
        ("# escape=x\nFROM a", "invalid escape token 'x'"),
        ("# check=a\n# check=b\nFROM a", "only one check parser directive can be used"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert message in str(mistake(text))


def test_the_excerpt_shows_the_place() -> None:
    error = mistake("FROM a\nRUNN x\nCMD y\n")
    assert error.excerpt.splitlines()[0] == "Dockerfile:2"
    assert "   2 | >>> RUNN x" in error.excerpt.splitlines()
    assert "   3 |     CMD y" in error.excerpt.splitlines()


def test_targets() -> None:
    read_ = file("FROM a AS one\nFROM b AS two\nFROM one\nCOPY --from=1 x y\nFROM c AS unused\n")
    assert read_.stage("TWO").index == 1 and read_.stage().name == "unused"
    assert [each.index for each in read_.needed(read_.stages[2])] == [0, 1, 2]
    with pytest.raises(DockerfileError, match=r'target stage "2" could not be found'):
        read_.stage("2")
    with pytest.raises(
        DockerfileError, match=r'target stage "tow" could not be found \(did you mean two\?\)'
    ):
        read_.stage("tow")


def test_mounts() -> None:
    assert read_mount("type=bind,src=a,dst=/b,rw") == Mount("bind", "a", "/b", readonly=False)
    assert read_mount("type=cache,target=/c,sharing=locked,uid=7,mode=0755") == Mount(
        "cache", target="/c", sharing="locked", uid=7, mode=0o755, readonly=False
    )
    assert read_mount("type=tmpfs,target=/t,size=64m").size == 64 << 20
    assert read_mount("type=secret,id=s,env=TOKEN,required").env == "TOKEN"
    assert read_mount('"target=/a,b",type=bind').target == "/a,b"


@pytest.mark.parametrize(
    "text",
    [
        "target",
        "type=cach,target=/x",
        "type=tmpfs,target=/x,uid=1",
        "type=secret,id=a,source=b",
        "type=cache,target=/x,sharing=x",
        "type=secret",
        "type=ssh,size=1",
        "mode=9,type=cache,target=/x",
        "a=b",
    ],
)
def test_mounts_with_mistakes(text: str) -> None:
    with pytest.raises(DockerfileError):
        read_mount(text)


_LINES = st.sampled_from(
    [
        "FROM a",
        "RUN <<E",
        "E",
        "COPY a b",
        'CMD ["a"',
        "ENV a=$b \\",
        "",
        "# x",
        "\\",
        "ARG",
        "--",
        "ONBUILD RUN <<E",
        "\t RUN\t--x",
    ]
)


@given(st.lists(_LINES | st.text(max_size=12), max_size=8).map("\n".join))
def test_anything_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        read(text)
    except DockerfileError as error:
        assert str(error)

"""What graphs used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sampan.attestations.captures import Capture, ImageSource, captured, of_platform, redacted
from sampan.llb import state
from sampan.llb.execop import Bind, Command, Secret, SecretVariable, Ssh
from sampan.llb.fileop import Copy
from sampan.llb.graph import load
from sampan.llb.state import definition, source
from sampan.names.platform import Platform

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
DIGEST = "sha256:" + "a" * 64
COMMIT = "b" * 40


def of(made: state.State, *notes: tuple[state.State, dict[str, str]]) -> Capture:
    return captured(load(definition(made)), {each.node.digest: note for each, note in notes})


def test_sources_are_told_with_what_they_were_resolved_to() -> None:
    base = source(f"docker-image://docker.io/library/busybox:latest@{DIGEST}")
    code = source("git://host/it.git#main", {"git.authtokensecret": "token"})
    file = source("https://me:word@host/file")
    made = base
    for each in (code, file, state.local("context")):
        made = made.file(Copy(each, "/", "/"))
    told = of(
        made,
        (code, {"url": "https://me:word@host/it.git#main", "commit": COMMIT}),
        (file, {"digest": DIGEST}),
    )
    assert [(each.reference, each.digest) for each in told.images] == [
        (f"docker.io/library/busybox:latest@{DIGEST}", DIGEST)
    ]
    assert told.repositories == {"https://xxxxx:xxxxx@host/it.git#main": COMMIT}
    assert told.files == {"https://xxxxx:xxxxx@host/file": DIGEST}
    assert told.locals == {"context"}
    assert told.secrets == {"token": True}
    assert not told.network


def test_programs_tell_ids_and_the_network() -> None:
    base = source("docker-image://a")
    first = base.run(
        Command(args=["x"], network="none", secrets=[SecretVariable(id="variable", name="V")]),
        [Secret("/s", "secret"), Ssh("/a", "")],
    ).root
    told = of(first)
    assert told.secrets == {"secret": True, "variable": True}
    assert told.agents == {"default": True}
    assert not told.network
    second = of(first.run(Command(args=["y"]), [Secret("/s", "secret", optional=False)]).root)
    assert second.secrets == {"secret": False, "variable": True}
    assert second.network


def test_an_image_is_told_by_its_tag_where_it_has_one() -> None:
    capture = Capture()
    named, pinned = "docker.io/library/a:1", f"docker.io/library/a:1@{DIGEST}"
    for reference in (pinned, named, f"docker.io/library/b@{DIGEST}", named):
        capture.add_image(ImageSource(reference, AMD, DIGEST))
    assert [each.reference for each in capture.told_images] == [named, f"docker.io/library/b@{DIGEST}"]


def test_an_image_of_a_layout_at_the_client_is_of_no_registry() -> None:
    (found,) = of(source(f"oci-layout://store/name@{DIGEST}")).images
    assert (found.reference, found.digest, found.is_clients) == (f"store/name@{DIGEST}", DIGEST, True)


def test_captures_are_added_up() -> None:
    one, other = Capture(secrets={"a": True}), Capture(secrets={"a": False}, network=True, incomplete=True)
    other.locals.add("context")
    one.merge(other)
    assert (one.secrets, one.locals, one.network, one.incomplete) == ({"a": False}, {"context"}, True, True)


def test_images_of_another_platform_are_left_out() -> None:
    both = [ImageSource("a:1", AMD, "x"), ImageSource("a:1", ARM, "y")]
    tool = ImageSource("tool:1", AMD, "z")
    assert of_platform([*both, tool], ARM, [AMD, ARM]) == [both[1], tool]


def test_read_only_mounts_are_used_too() -> None:
    made = source("docker-image://a").run(Command(args=["x"]), [Bind(state.local("other"), "/o")]).root
    assert of(made).locals == {"other"}


@given(
    st.from_regex(r"[a-z0-9%]{1,8}", fullmatch=True),
    st.from_regex(r"[a-z0-9%!@:]{12,20}", fullmatch=True),
)
def test_a_password_never_stays(name: str, password: str) -> None:
    told = redacted(f"https://{name}:{password}@host.example/path?q#f")
    assert password not in told
    assert told.endswith("@host.example/path?q#f")


@given(st.text())
def test_no_text_is_a_crash(text: str) -> None:
    redacted(text)


def test_what_has_no_password_stays() -> None:
    for url in ("https://host/a", "git@host:a/b.git", "docker-image://a@sha256:0", "local"):
        assert redacted(url) == url
    assert redacted("https://token@host/a") == "https://xxxxx@host/a"

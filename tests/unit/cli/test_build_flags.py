"""Values of `sampan build`'s flags."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sampan.cli import buildflags
from sampan.cli.buildagents import agents
from sampan.client.solving import Plan
from sampan.errors import InvalidParameter, NotSupported


def outputs(*given: str, push: bool = False, load: bool = False) -> list[tuple[str, dict[str, str]]]:
    plan = Plan()
    buildflags.add_outputs(plan, given, ["app:1"], {}, push=push, load=load)
    return plan.exporters


def test_outputs() -> None:
    named = {"name": "app:1"}
    assert outputs() == outputs(load=True) == outputs("type=docker") == [("moby", named)]
    assert outputs(push=True) == outputs("type=registry") == [("image", {**named, "push": "true"})]
    assert outputs("type=image,name=other,push=true") == [("image", {"name": "other", "push": "true"})]
    assert outputs("out") == outputs("type=local,dest=out") == [("local", {})]
    assert outputs("type=oci,dest=a.tar", "out") == [("oci", named), ("local", {})]


def test_where_outputs_go() -> None:
    plan = Plan()
    buildflags.add_outputs(plan, ["type=tar,dest=a.tar", "out", "-"], [], {}, push=False, load=False)
    assert [(each.path, each.directory) for each in plan.destinations.values()] == [
        ("a.tar", False),
        ("out", True),
        ("-", False),
    ]
    with pytest.raises(InvalidParameter, match="dest is required for local output"):
        outputs("type=local")
    with pytest.raises(InvalidParameter, match="type is required"):
        outputs("dest=x")


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"one")
    monkeypatch.setenv("TOKEN", "two")

    def read(text: str) -> tuple[str, bytes]:
        id, reader = buildflags.secret(text)
        return id, reader()

    assert read(f"id=t,src={file}") == ("t", b"one")
    assert read(f"source={file}") == ("token", b"one")
    assert read("id=TOKEN") == ("TOKEN", b"two")
    assert read("id=t,env=TOKEN") == read("type=env,id=t,src=TOKEN") == ("t", b"two")
    for wrong in ("src=", "id=t,what=x", "id=nothing", "type=x,id=t", "id=t,env=NOTHING"):
        with pytest.raises(InvalidParameter):
            buildflags.secret(wrong)


def test_agents_are_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(InvalidParameter, match="SSH_AUTH_SOCK"), agents(["default"]):
        pass
    with pytest.raises(InvalidParameter, match="no such file"), agents([f"git={tmp_path}/nothing"]):
        pass
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "s"))
        with agents([f"git={tmp_path}/s"]) as found:
            assert found == {"git": f"{tmp_path}/s"}
        with (
            pytest.raises(InvalidParameter, match="single socket"),
            agents([f"git={tmp_path}/s,{tmp_path}/s"]),
        ):
            pass


def test_caches_hosts_and_attestations() -> None:
    assert buildflags.entry("user/app", "--cache-from") == ("registry", {"ref": "user/app"})
    assert buildflags.entry("type=registry,ref=a,mode=max", "--cache-to") == (
        "registry",
        {"ref": "a", "mode": "max"},
    )
    assert buildflags.hosts(["a:1.2.3.4", "b=::1", "c:[::2]"]) == "a=1.2.3.4,b=::1,c=::2"
    with pytest.raises(InvalidParameter, match="bad format"):
        buildflags.hosts(["a"])
    assert buildflags.attestations([], "false", None) == {}
    assert buildflags.attestations(["type=sbom"], "true", None) == {
        "attest:sbom": "",
        "attest:provenance": "",
    }
    assert buildflags.attestations([], "mode=max", None) == {"attest:provenance": "mode=max"}


def test_annotations_are_attributes_of_images() -> None:
    given = buildflags.annotated(["a=b=c", "index,manifest[linux/arm64]:d=e"])
    assert given == {
        "annotation.a": "b=c",
        "annotation-index.d": "e",
        "annotation-manifest[linux/arm64].d": "e",
    }
    plan = Plan()
    buildflags.add_outputs(plan, ["type=oci,dest=a", "out"], [], given, push=False, load=False)
    assert plan.exporters == [("oci", given), ("local", {})]
    for wrong in ("a", "layer:a=b", "manifest[]:a=b"):
        with pytest.raises(InvalidParameter):
            buildflags.annotated([wrong])


def test_a_layout_is_unpacked_here() -> None:
    plan = Plan()
    buildflags.add_outputs(plan, ["type=oci,dest=d,tar=false"], [], {}, push=False, load=False)
    assert plan.exporters == [("oci", {})] and plan.destinations[0].directory
    with pytest.raises(NotSupported, match="mode=delete"):
        buildflags.add_outputs(plan, ["type=local,dest=d,mode=delete"], [], {}, push=False, load=False)

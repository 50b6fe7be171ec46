"""A graph in provenance."""

from __future__ import annotations

import dataclasses
from base64 import b64encode

from sampan.attestations import steps
from sampan.llb import ops_pb2 as pb
from sampan.llb import state
from sampan.llb.execop import Command, Secret, Tmpfs
from sampan.llb.fileop import Copy, MakeFile
from sampan.llb.graph import load
from sampan.llb.state import Meta, Text, definition

PLATFORM = pb.Platform(OS="linux", Architecture="amd64")


def graph() -> pb.Definition:
    base = state.image("docker.io/library/busybox:latest", platform=PLATFORM)
    context = state.local("context", {"local.session": "s", "local.unique": "u", "local.sharedkeyhint": "c"})
    copied = base.file(Copy(context, "/a", "/"), meta=Meta(places=((2, 2),)))
    ran = copied.run(Command(args=["x", "<y>"], network="none"), [Secret("/s", "id"), Tmpfs("/t")])
    return definition(ran.root, Text("Dockerfile", b"FROM busybox\nCOPY a /\n"))


def test_operations_are_told_as_buildkits_own_json() -> None:
    made = graph()
    config, _ = steps.build_config(made, load(made))
    image, local, copied, ran, last = config["llbDefinition"]
    assert image == {
        "id": "step0",
        "op": {
            "Op": {"source": {"identifier": "docker-image://docker.io/library/busybox:latest"}},
            "platform": {"Architecture": "amd64", "OS": "linux"},
        },
    }
    assert local["op"]["Op"]["source"]["attrs"] == {"local.sharedkeyhint": "c"}
    assert copied["inputs"] == ["step0:0", "step1:0"]
    action = copied["op"]["Op"]["file"]["actions"][0]
    assert (action["input"], action["secondaryInput"], action["output"]) == (0, 1, 0)
    assert action["Action"]["copy"]["src"] == "/a"
    program = ran["op"]["Op"]["exec"]
    assert program["meta"]["args"] == ["x", "<y>"]
    assert program["network"] == 2
    secret, tmpfs = program["mounts"][1:]
    assert secret["secretOpt"] == {"ID": "id", "mode": 0o400, "optional": True}
    assert (tmpfs["mountType"], tmpfs["TmpfsOpt"]) == (4, {})
    assert last == {"id": "step4", "op": {"Op": {}}, "inputs": ["step3:0"]}
    assert sorted(config["digestMapping"].values()) == [f"step{number}" for number in range(5)]


def test_texts_are_told_with_their_places() -> None:
    made = graph()
    _, numbers = steps.build_config(made, load(made))
    told = steps.source_text(made.source, numbers)
    assert told is not None
    assert told["infos"] == [
        {
            "filename": "Dockerfile",
            "language": "Dockerfile",
            "data": b64encode(b"FROM busybox\nCOPY a /\n").decode(),
        }
    ]
    assert told["locations"]["step2"] == {
        "locations": [{"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}]
    }
    assert steps.source_text(pb.Source(), numbers) is None


def test_choices_and_bytes() -> None:
    by_name = pb.UserOpt(byName=pb.NamedUserOpt(name="me", input=1))
    assert steps.plain(by_name) == {"User": {"byName": {"name": "me", "input": 1}}}
    assert steps.plain(pb.UserOpt(byID=5)) == {"User": {"byId": 5}}
    assert steps.plain(pb.UserOpt(byID=0)) == {"User": {}}
    made = definition(state.change(None, [MakeFile("/f", b"\xff")]))
    config, _ = steps.build_config(made, load(made))
    action = config["llbDefinition"][0]["op"]["Op"]["file"]["actions"][0]
    assert action["Action"]["mkfile"]["data"] == "/w=="


def test_passwords_in_urls_are_not_told() -> None:
    code = state.source("git://host/a.git", {"git.fullurl": "https://me:word@host/a.git"})
    made = definition(code)
    config, _ = steps.build_config(made, load(made))
    assert "word" not in str(config)


def test_an_empty_file_system_has_no_steps() -> None:
    empty = pb.Definition()
    assert steps.build_config(empty, load(empty)) == ({}, {})
    assert dataclasses.is_dataclass(load(empty))

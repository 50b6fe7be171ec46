"""Dockerfiles as LLB, without an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sampan.dockerfile.source import DockerfileError
from sampan.dockerfile.stages import read
from sampan.errors import InvalidParameter
from sampan.frontend.interface import Base, Lowered, Options
from sampan.frontend.lower import lower
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Vertex, load
from sampan.llb.state import definition
from sampan.names.platform import Platform
from sampan.oci.image import ContainerConfig, ImageConfig, RootFS

AMD64 = Platform("linux", "amd64")


class Images:
    """Knows every image; remembers what it was asked for."""

    def __init__(self, **config: Any) -> None:
        self.asked: list[str] = []
        self._config = ContainerConfig(env=["PATH=/bin"], **config)

    async def image(self, name: str, platform: Platform) -> Base:
        self.asked.append(name)
        config = ImageConfig(
            architecture="amd64",
            os="linux",
            config=self._config,
            rootfs=RootFS(diff_ids=["sha256:" + "1" * 64]),
        )
        return Base(f"docker.io/library/{name}@sha256:{'2' * 64}", config, platform)

    async def layout(self, name: str, store: str, digest: str, platform: Platform) -> ImageConfig:
        self.asked.append(f"{store} {digest}")
        return ImageConfig(config=ContainerConfig(env=["LAID=out"]))

    async def ignored(self, directory: str, hint: str) -> Sequence[str]:
        return ["secret"]


def lowered(text: str, images: Images | None = None, **options: Any) -> Lowered:
    asked = Options(platform=AMD64, build_platform=AMD64, **options)
    return asyncio.run(lower(read(text), asked, images or Images()))


def vertices(result: Lowered) -> dict[str, Vertex]:
    return {each.name: each for each in load(definition(result.state)).vertices()}


def test_stages_that_are_not_needed_are_not_looked_at() -> None:
    images = Images()
    text = "FROM a AS one\nRUN x\nFROM b AS two\nRUN y\nFROM c\nCOPY --from=one /f /\n"
    found = vertices(lowered(text, images))
    assert images.asked == ["c", "a"]
    assert not any("RUN y" in name for name in found)


def test_steps_are_numbered_as_buildx_shows_them() -> None:
    found = vertices(lowered("FROM a AS build\nWORKDIR /w\nRUN x\nFROM b\nCOPY --from=build /f /\n"))
    assert "[build 2/3] WORKDIR /w" in found and "[build 3/3] RUN x" in found
    assert "[stage-1 2/2] COPY --from=build /f /" in found


def test_arguments_count_from_their_declaration_and_make_keys() -> None:
    text = "ARG V=1\nFROM a\nARG V\nARG W=${V}2\nENV E=$W\nRUN echo $E\n"
    run = next(each for each in vertices(lowered(text)).values() if each.kind == "exec")
    assert set(run.op.exec.meta.env) == {"PATH=/bin", "E=12", "V=1", "W=12"}
    other = next(
        each for each in vertices(lowered(text, arguments={"V": "7"})).values() if each.kind == "exec"
    )
    assert other.digest != run.digest and "E=72" in other.op.exec.meta.env


def test_proxies_are_seen_and_are_no_key() -> None:
    result = lowered("FROM a\nRUN x\n", arguments={"HTTP_PROXY": "http://p"})
    run = next(each for each in vertices(result).values() if each.kind == "exec")
    assert run.op.exec.meta.proxy_env.http_proxy == "http://p"
    assert not any("PROXY" in each for each in run.op.exec.meta.env)
    assert result.unused == ()


def test_only_what_is_copied_is_asked_of_the_context() -> None:
    found = vertices(lowered("FROM a\nCOPY src/*.c dir/ /x/\n", ignored=("*.o",)))
    context = found["[internal] load build context"].op.source
    assert context.attrs["local.followpaths"] == '["dir", "src/*.c"]'
    assert context.attrs["local.excludepatterns"] == '["*.o"]'
    whole = vertices(lowered("FROM a\nCOPY . /x/\n"))["[internal] load build context"].op.source
    assert "local.followpaths" not in whole.attrs


def test_a_linked_copy_is_a_layer_of_its_own() -> None:
    found = vertices(lowered("FROM a\nCOPY --link f /f\n"))
    merge = next(each for each in found.values() if each.kind == "merge")
    copies = [edge.vertex for edge in merge.inputs if edge.vertex.kind == "file"]
    assert [[edge.vertex.kind for edge in each.inputs] for each in copies] == [["source"]]
    assert copies[0].op.file.actions[0].input == -1


def test_triggers_of_the_base_come_first_and_go() -> None:
    result = lowered("FROM a\nRUN own\n", Images(on_build=["RUN trigger"]))
    runs = [each.op.exec.meta.args[-1] for each in vertices(result).values() if each.kind == "exec"]
    assert runs == ["trigger", "own"]
    assert result.image.config is not None and not result.image.config.on_build


def test_mounts_become_mounts() -> None:
    text = (
        "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked --mount=type=secret,id=s,env=TOKEN,required"
        " --mount=type=ssh --mount=from=b,source=/x,target=/y --mount=type=tmpfs,target=/t,size=5m"
        " --network=none --security=insecure x\n"
    )
    run = next(each for each in vertices(lowered(text)).values() if each.kind == "exec").op.exec
    by_place = {each.dest: each for each in run.mounts}
    assert by_place["/c"].cacheOpt.sharing == pb.LOCKED and by_place["/c"].cacheOpt.ID == "//c"
    assert by_place["/y"].selector == "/x" and by_place["/y"].readonly and by_place["/y"].output == -1
    assert by_place["/t"].tmpfsOpt.size == 5 << 20
    assert [(each.ID, each.name, each.optional) for each in run.secretenv] == [("s", "TOKEN", False)]
    assert "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0" in run.meta.env
    assert run.network == pb.NONE and run.security == pb.INSECURE


def test_a_mistake_has_its_place() -> None:
    with pytest.raises(DockerfileError, match=r"^invalid chmod parameter") as mistake:
        lowered("FROM a\nCOPY --chmod=99 a /\n")
    assert ">>> COPY --chmod=99 a /" in mistake.value.excerpt


def test_history_tells_layers_and_settings_apart() -> None:
    image = lowered('FROM a\nENV A=b\nRUN x\nWORKDIR /\nLABEL l=m\nCMD ["c"]\n').image
    told = [(each.created_by, each.empty_layer) for each in image.history[1:]]
    assert told == [
        ("ENV A=b", True),
        ("RUN /bin/sh -c x # buildkit", False),
        ("WORKDIR /", True),
        ("LABEL l=m", True),
        ('CMD ["c"]', True),
    ]


def test_a_directory_is_its_sessions_wherever_the_graph_goes() -> None:
    text = "FROM a\nCOPY f /\nCOPY --from=docs g /\n"
    contexts = {"docs": "local:docs"}
    found = vertices(lowered(text, contexts=contexts, sessions={"": "mine", "docs": "shared"}))
    context = found["[internal] load build context"].op.source.attrs
    docs = found["[context docs] load from client"].op.source.attrs
    assert (context["local.session"], docs["local.session"]) == ("mine", "shared")
    assert docs["local.excludepatterns"] == '["secret"]'


@pytest.mark.parametrize("key", ["b", "b::linux/amd64"])
@pytest.mark.parametrize("base", ["b", "b:latest", "docker.io/library/b:latest"])
def test_a_named_context_takes_an_images_place_by_any_of_its_names(key: str, base: str) -> None:
    images = Images()
    lowered(f"FROM {base}\n", images, contexts={key: "docker-image://other", "b::linux/arm64": "local:x"})
    assert images.asked == ["other"]


def test_an_image_in_a_clients_layout() -> None:
    digest = "sha256:" + "3" * 64
    images = Images()
    contexts = {"laid": f"oci-layout://s.tore:v1@{digest}"}
    result = lowered("FROM laid\nRUN x\n", images, contexts=contexts, sessions={"": "mine"})
    assert images.asked == [f"s.tore {digest}"]
    source = vertices(result)["[context laid] OCI load from client"].op.source
    assert source.identifier == f"oci-layout://docker.io/library/laid@{digest}"
    assert dict(source.attrs) == {"oci.session": "mine", "oci.store": "s.tore"}
    assert result.image.config is not None and (result.image.config.env or [""])[0] == "LAID=out"
    with pytest.raises(InvalidParameter, match="no digest"):
        lowered("FROM laid\n", contexts={"laid": "oci-layout://store:v1"})

"""The everyday verbs through the docker CLI: images, tag, rmi, history, inspect, prune, import, commit."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import http.server
import json
import lzma
import os
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from image_archives import Layout, digest, simple, tar
from image_engine import ImageEngine
from sampan.engineapi.filters import Filters
from sampan.errors import NotFound
from sampan.images.interface import CommitRequest, ContainerUse
from sampan.images.listing import ListOptions
from sampan.images.scaffold import scaffold_name

pytestmark = pytest.mark.root


def load(engine: ImageEngine, name: str, content: bytes = b"x", **fields: Any) -> str:
    """Load an image of one file; its id."""
    engine.docker("load", stdin=simple(name, {"file": content}, **fields))
    return engine.docker("image", "inspect", "-f", "{{.Id}}", name).strip()


def names(engine: ImageEngine, *arguments: str) -> list[str]:
    return engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", *arguments).split()


def settled(engine: ImageEngine) -> None:
    engine.run(engine.images.housekeeping.settled())


def use(engine: ImageEngine, image_id: str, reference: str, running: bool) -> None:
    engine.uses = [ContainerUse("c" * 64, image_id, reference, running)]


def events(engine: ImageEngine) -> list[tuple[str, str]]:
    return [(each.action, each.actor.attributes.get("name", "")) for each in engine.events.history(0)]


# -- rmi


def test_rmi_untags_then_deletes_then_frees_everything(image_engine: ImageEngine) -> None:
    image_id = load(image_engine, "a:1")
    image_engine.docker("tag", "a:1", "b:1")
    assert image_engine.docker("rmi", "b:1") == "Untagged: b:1\n"
    assert image_engine.docker("rmi", "a:1") == f"Untagged: a:1\nDeleted: {image_id}\n"
    settled(image_engine)
    assert image_engine.run(image_engine.content.walk()) == []
    assert image_engine.run(image_engine.snapshots.walk()) == []
    wanted = [("load", image_id), ("tag", "b:1"), ("untag", "b:1"), ("untag", "a:1"), ("delete", image_id)]
    assert events(image_engine) == wanted


def test_rmi_by_id(image_engine: ImageEngine) -> None:
    image_id = load(image_engine, "a:1")
    image_engine.docker("tag", "a:1", "b:1")
    short = image_id[7:19]
    error = image_engine.docker("rmi", short, ok=False)
    assert (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        in error
    )
    assert set(names(image_engine)) == {"a:1", "b:1"}
    output = image_engine.docker("rmi", "-f", short)
    assert output == f"Untagged: a:1\nUntagged: b:1\nDeleted: {image_id}\n"
    assert f"No such image: {short}:latest" in image_engine.docker("rmi", short, ok=False)


@pytest.mark.parametrize("running", [True, False])
def test_rmi_of_a_used_image(image_engine: ImageEngine, running: bool) -> None:
    image_id = load(image_engine, "a:1")
    use(image_engine, image_id, "a:1", running)
    error = image_engine.docker("rmi", "a:1", ok=False)
    assert (
        "conflict: unable to delete a:1 (must be forced) - container cccccccccccc is using its referenced image"
        f" {image_id[7:19]}" in error
    )
    error = image_engine.docker("rmi", image_id, ok=False)
    kind = (
        "cannot be forced) - image is being used by running"
        if running
        else "must be forced) - image is being used by stopped"
    )
    assert f"conflict: unable to delete {image_id[7:19]} ({kind} container cccccccccccc" in error
    assert image_engine.docker("rmi", "-f", "a:1") == "Untagged: a:1\n"
    assert names(image_engine) == ["<none>:<none>"]


def test_ambiguous_prefix_and_unknown_names(image_engine: ImageEngine) -> None:
    image_id = load(image_engine, "a:1")
    assert image_engine.docker("image", "inspect", "-f", "{{.Id}}", image_id[7:11]).strip() == image_id
    assert "No such image: nope:latest" in image_engine.docker("image", "inspect", "nope", ok=False)
    assert "No such image: nope@sha256:" in image_engine.docker("rmi", f"nope@{image_id}", ok=False)
    assert "invalid reference format" in image_engine.docker("image", "inspect", "UPPER", ok=False)
    with pytest.raises(NotFound, match="ambiguous reference"):
        image_engine.run(_with_common_prefix(image_engine, image_id))


async def _with_common_prefix(engine: ImageEngine, image_id: str) -> None:
    """Two records whose digests begin alike, which real digests rarely do."""
    record = (await engine.images.parts.records.of(image_id))[0]
    twin = msgspec.structs.replace(record.target, digest=image_id[:20] + "0" * 51)
    await engine.images.parts.records.put("docker.io/library/twin:1", twin)
    try:
        await engine.images.parts.resolver.record(image_id[7:15])
    finally:
        await engine.images.parts.records.delete(["docker.io/library/twin:1"])


# -- list, filters, sizes


def test_filters(image_engine: ImageEngine) -> None:
    load(image_engine, "old:1", b"1", created="2020-01-01T00:00:00Z", config={"Labels": {"a": "1", "b": "2"}})
    load(image_engine, "mid:1", b"2", created="2021-01-01T00:00:00Z", config={"Labels": {"a": "2"}})
    load(image_engine, "new:1", b"3", created="2022-01-01T00:00:00Z")
    load(image_engine, "me/app:1", b"4", created="2023-01-01T00:00:00Z")
    everything = ["me/app:1", "new:1", "mid:1", "old:1"]
    assert names(image_engine) == everything
    cases = {
        "before=mid:1": ["old:1"],
        "since=mid:1": ["me/app:1", "new:1"],
        "label=a": ["mid:1", "old:1"],
        "label=a=1": ["old:1"],
        "reference=o*": ["old:1"],
        "reference=*/app": ["me/app:1"],
        "reference=*:1": ["new:1", "mid:1", "old:1"],
        "dangling=true": [],
        "dangling=false": everything,
        "until=1h": [],
    }
    for text, wanted in cases.items():
        assert names(image_engine, "--filter", text) == wanted, text
    assert names(image_engine, "new") == ["new:1"]
    assert "invalid filter 'nope'" in image_engine.docker("images", "--filter", "nope=1", ok=False)
    assert "No such image: gone:latest" in image_engine.docker("images", "--filter", "since=gone", ok=False)


def test_shared_layers_count_once(image_engine: ImageEngine) -> None:
    layout = Layout()
    shared = tar({"shared": os.urandom(1 << 20)})
    for name in ("a:1", "b:1"):
        layout.name(layout.image([shared, tar({name: name.encode()})]), name)
    image_engine.docker("load", stdin=layout.archive())
    summaries = image_engine.run(image_engine.images.summaries(ListOptions(shared_size=True)))
    # the layer as it is distributed, and unpacked
    assert all((2 << 20) <= each.shared_size < (2 << 20) + 20_000 for each in summaries)
    usage = image_engine.run(image_engine.images.disk_usage())
    assert usage.total_count == 2 and usage.active_count == 0
    assert usage.total_size == usage.reclaimable < sum(each.size for each in summaries) - (2 << 20) + 10_000
    use(image_engine, summaries[0].id, "a:1", True)
    usage = image_engine.run(image_engine.images.disk_usage())
    assert usage.active_count == 1 and [each.containers for each in usage.items] in ([1, 0], [0, 1])


def test_history(image_engine: ImageEngine) -> None:
    layout = Layout()
    steps = [
        {"created": "2020-01-01T00:00:00Z", "created_by": "ADD rootfs", "comment": "base"},
        {"created": "2020-01-02T00:00:00Z", "created_by": "ENV A=1", "empty_layer": True},
        {"created": "2020-01-03T00:00:00Z", "created_by": "RUN make"},
    ]
    layers = [tar({"a": b"x" * 9000}), tar({"b": b"y"})]
    layout.name(layout.image(layers, history=steps), "h:1")
    image_engine.docker("load", stdin=layout.archive())
    form = "{{.ID}} {{.CreatedAt}} {{.CreatedBy}} {{.Comment}}"
    lines = image_engine.docker("history", "--no-trunc", "-H=false", "--format", form, "h:1").splitlines()
    image_id = layout.index[0]["digest"]
    assert [line.split()[0] for line in lines] == [image_id, "<missing>", "<missing>"]
    assert ["RUN make" in lines[0], "ENV A=1" in lines[1], lines[2].endswith("ADD rootfs base")] == [True] * 3
    sizes = [each.size for each in image_engine.run(image_engine.images.history("h:1"))]
    assert sizes[1] == 0 and sizes[2] > 9000 and 0 < sizes[0] < 9000


# -- prune


def test_prune(image_engine: ImageEngine) -> None:
    load(image_engine, "x:1", b"old")
    current = load(image_engine, "x:1", b"new")
    load(image_engine, "used:1", b"used")
    load(image_engine, "unused:1", b"unused", config={"Labels": {"keep": "1"}})
    use(
        image_engine,
        image_engine.docker("image", "inspect", "-f", "{{.Id}}", "used:1").strip(),
        "used:1",
        False,
    )
    output = image_engine.docker("image", "prune", "-f")
    assert "deleted: sha256:" in output and "Total reclaimed space: 0B" not in output
    assert names(image_engine) == ["unused:1", "used:1", "x:1"] or set(names(image_engine)) == {
        "unused:1",
        "used:1",
        "x:1",
    }
    image_engine.docker("image", "prune", "-af", "--filter", "label!=keep")
    assert set(names(image_engine)) == {"used:1", "unused:1"}
    with pytest.raises(NotFound):
        image_engine.run(image_engine.images.resolve(current))
    image_engine.docker("image", "prune", "-af", "--filter", "until=24h")
    assert set(names(image_engine)) == {"used:1", "unused:1"}
    image_engine.docker("image", "prune", "-af")
    assert names(image_engine) == ["used:1"]


def test_an_image_used_by_its_id_is_kept_without_names(image_engine: ImageEngine) -> None:
    image_id = load(image_engine, "a:1")
    use(image_engine, image_id, image_id[7:19], True)
    image_engine.run(image_engine.images.prune(Filters({"dangling": ["false"]})))
    assert names(image_engine) == ["<none>:<none>"]
    assert image_engine.run(image_engine.images.resolve(image_id)).id == image_id


# -- import and commit


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_import(image_engine: ImageEngine, compress: Callable[[bytes], bytes]) -> None:
    layer = tar({"etc/os-release": b"NAME=test"})
    changes = ["--change", 'CMD ["sh"]', "-c", "ENV A=1", "--message", "by hand", "--platform", "linux/arm64"]
    output = image_engine.docker("import", *changes, "-", "imported:1", stdin=compress(layer))
    assert output.startswith("sha256:")
    found = json.loads(image_engine.docker("image", "inspect", "imported:1"))[0]
    assert (found["Id"], found["Architecture"], found["Comment"]) == (output.strip(), "arm64", "by hand")
    assert (found["Config"]["Cmd"], found["Config"]["Env"]) == (["sh"], ["A=1"])
    assert found["RootFS"]["Layers"] == [digest(layer)]
    assert "RUN is not a valid change command" in image_engine.docker(
        "import", "-c", "RUN x", "-", stdin=layer, ok=False
    )
    assert "../x" in image_engine.docker("import", "-", "bad", stdin=tar({"../x": b""}), ok=False)


def test_import_from_a_url(image_engine: ImageEngine) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/rootfs.tar" else 404)
            self.end_headers()
            if self.path == "/rootfs.tar":
                self.wfile.write(tar({"f": b"x"}))

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        output = image_engine.docker("import", f"{url}/rootfs.tar", "u:1")
        assert output.startswith(f"Downloading from {url}/rootfs.tar\n") and "sha256:" in output
        assert "404" in image_engine.docker("import", f"{url}/gone.tar", ok=False)
        server.shutdown()


def test_commit(image_engine: ImageEngine) -> None:
    base = load(image_engine, "base:1", b"x", config={"Env": ["A=1"], "Labels": {"l": "1"}})
    container = "a" * 64
    image = image_engine.run(image_engine.images.resolve("base:1"))
    image_engine.run(image_engine.images.prepare_rootfs(container, image))
    upper = image_engine.run(image_engine.snapshots.apply_target(container)).path
    with open(os.path.join(upper, "new"), "w") as file:
        file.write("content")
    request = CommitRequest(
        image=image,
        config={"Env": ["A=1"], "Cmd": ["sh"], "Hostname": "h", "Labels": {"l": "1"}},
        repository="done",
        tag="2",
        author="me",
        comment="why",
        changes=("ENV B=2",),
        container_config_cmd=("sh", "-c", "make"),
    )
    new_id = image_engine.run(image_engine.images.commit(container, request))
    found = json.loads(image_engine.docker("image", "inspect", "done:2"))[0]
    assert (found["Id"], found["Parent"], found["Author"], found["Comment"]) == (new_id, base, "me", "why")
    assert (found["Config"]["Env"], found["Config"]["Labels"]) == (["A=1", "B=2"], {"l": "1"})
    assert len(found["RootFS"]["Layers"]) == 2
    target = image_engine.run(
        image_engine.snapshots.apply_target(image_engine.run(image_engine.images.resolve("done:2")).chain_id)
    )
    assert os.listdir(target.path) == ["new"]
    lines = image_engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "done:2").splitlines()
    assert lines[0] == "sh -c make"
    items = image_engine.run(image_engine.images.history("done:2"))
    assert [(each.id, each.tags) for each in items] == [(new_id, ["done:2"]), (base, ["base:1"])]
    # The base stays beneath its child, without a name; both go with the child.
    image_engine.docker("rmi", "base:1")
    assert names(image_engine) == ["done:2"] and len(names(image_engine, "-a")) == 2
    image_engine.run(image_engine.images.release_rootfs(container))
    image_engine.docker("rmi", "done:2")
    settled(image_engine)
    assert names(image_engine, "-a") == []
    assert image_engine.run(image_engine.snapshots.walk()) == []


def test_layers_are_unpacked_once_however_many_ask(image_engine: ImageEngine) -> None:
    load(image_engine, "a:1")
    image = image_engine.run(image_engine.images.resolve("a:1"))
    image_engine.run(image_engine.snapshots.remove(image.chain_id))
    runs: list[str] = []
    workers = image_engine.images.parts.workers
    original = workers.run

    async def counted(target: str, *arguments: Any, **named: Any) -> Any:
        runs.append(target)
        return await original(target, *arguments, **named)

    workers.run = counted  # type: ignore[method-assign]

    async def start_all() -> None:
        await asyncio.gather(
            *(image_engine.images.prepare_rootfs(f"{number:064}", image) for number in range(8))
        )

    image_engine.run(start_all())
    assert runs == ["sampan.archive.apply:apply_job", "sampan.images.scaffold:scaffold_job"]
    for number in range(8):
        image_engine.run(image_engine.images.release_rootfs(f"{number:064}"))


def test_collection_keeps_what_is_used(image_engine: ImageEngine) -> None:
    load(image_engine, "a:1")
    container = "b" * 64
    image = image_engine.run(image_engine.images.resolve("a:1"))
    image_engine.run(image_engine.images.prepare_rootfs(container, image))
    image_engine.docker("rmi", "-f", "a:1")
    settled(image_engine)
    assert {each.name for each in image_engine.run(image_engine.snapshots.walk())} == {
        image.chain_id,
        scaffold_name(image.chain_id),
        container,
    }
    # A restart of the engine drops rootfs of containers that do not exist.
    image_engine.run(image_engine.images.recover({container}))
    settled(image_engine)
    assert len(image_engine.run(image_engine.snapshots.walk())) == 3
    image_engine.run(image_engine.images.recover(set()))
    settled(image_engine)
    assert image_engine.run(image_engine.snapshots.walk()) == []

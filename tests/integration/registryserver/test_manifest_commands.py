"""`docker manifest` and `sampan manifest`, with a Sampan registry and with Debian's: the same words, files and digests."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from registry_requests import Client, debians_registry, registry
from sampan.oci.image import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
)

PROGRAMS = {"docker": ["docker"], "sampan": [sys.executable, "-m", "sampan.cli"]}
Run = Callable[..., Awaitable[str]]
Serve = Callable[[Path], AbstractAsyncContextManager[Client]]

EACH_REGISTRY = pytest.mark.parametrize("serve", [registry, debians_registry], ids=["sampan", "debian"])


def program(name: str, configuration: Path) -> Run:
    """A client with a configuration directory of its own."""

    async def run(*arguments: str, ok: bool = True) -> str:
        environment = {**os.environ, "DOCKER_CONFIG": str(configuration)}
        process = await asyncio.create_subprocess_exec(
            *PROGRAMS[name],
            "manifest",
            *arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        output, errors = await process.communicate()
        assert (process.returncode == 0) is ok, (name, arguments, output, errors)
        return (output if ok else errors).decode()

    return run


async def images(ask: Client) -> None:
    """An image in Docker's form in `app`, one in OCI's in `other`."""
    for repository, architecture, kind, config_type, layer_type in (
        ("app", "amd64", DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER_GZIP),
        ("other", "arm64", OCI_MANIFEST, OCI_CONFIG, OCI_LAYER),
    ):
        config = await ask.blob(
            json.dumps({"architecture": architecture, "os": "linux"}).encode(), repository
        )
        layer = await ask.blob(architecture.encode(), repository)
        document = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {**config, "mediaType": config_type},
            "layers": [{**layer, "mediaType": layer_type}],
        }
        path = f"/v2/{repository}/manifests/{architecture}"
        assert (await ask("PUT", path, json.dumps(document).encode(), Content_Type=kind))[0] == 201


async def _scenario(run: Run, host: str) -> list[str]:
    """Everything that can be said to a list, and what was answered."""
    name, one, two = f"{host}/app:list", f"{host}/app:amd64", f"{host}/other:arm64"
    return [
        await run("inspect", "--insecure", one),
        await run("inspect", "--insecure", "-v", one),
        await run("inspect", "--insecure", "-v", two),
        await run("inspect", "--insecure", f"{host}/app:absent", ok=False),
        await run("create", "--insecure", name, one, two),
        await run("create", "--insecure", name, one, ok=False),
        await run("create", "--insecure", "--amend", name, two),
        await run("annotate", "--variant", "v8", "--os-features", "a,b", "--os-version", "1", name, two),
        await run("annotate", "--arch", "nosuch", name, two, ok=False),
        await run("annotate", name, f"{host}/app:absent", ok=False),
        await run("inspect", "--insecure", name),
        await run("inspect", "--insecure", "-v", name),
        await run("inspect", "--insecure", name, two),
        await run("push", "--insecure", name),
        await run("push", "--insecure", "--purge", name),
        await run("push", "--insecure", name, ok=False),
        await run("inspect", "--insecure", name),
        await run("rm", name, ok=False),
    ]


@EACH_REGISTRY
def test_both_programs_say_and_do_the_same(serve: Serve, tmp_path: Path) -> None:
    async def both() -> None:
        said: dict[str, list[str]] = {}
        for name in PROGRAMS:
            async with serve(tmp_path / name) as ask:
                host = ask.base.removeprefix("http://")
                await images(ask)
                answers = await _scenario(program(name, tmp_path / f"{name}-configuration"), host)
                said[name] = [answer.replace(host, "HOST") for answer in answers]
                # The list is whole in its own repository: what was elsewhere has come along.
                path = "/v2/app/manifests"
                index = json.loads((await ask("GET", f"{path}/list", Accept=DOCKER_INDEX))[2])
                for each in index["manifests"]:
                    kept = await ask("GET", f"{path}/{each['digest']}", Accept=each["mediaType"])
                    assert kept[0] == 200
        for theirs, ours in zip(said["docker"], said["sampan"], strict=True):
            assert ours == theirs

    asyncio.run(both())


@EACH_REGISTRY
def test_one_goes_on_with_the_others_list(serve: Serve, tmp_path: Path) -> None:
    async def run() -> None:
        async with serve(tmp_path / "root") as ask:
            host = ask.base.removeprefix("http://")
            await images(ask)
            docker, sampan = program("docker", tmp_path / "c"), program("sampan", tmp_path / "c")
            name = f"{host}/app:list"
            await sampan("create", "--insecure", name, f"{host}/app:amd64", f"{host}/other:arm64")
            assert await docker("inspect", name) == await sampan("inspect", name)
            await docker("annotate", "--variant", "v8", name, f"{host}/other:arm64")
            assert '"variant": "v8"' in await sampan("inspect", name)
            digest = (await docker("push", "--insecure", name)).splitlines()[-1]
            assert (await sampan("push", name)).splitlines()[-1] == digest
            await sampan("rm", name)
            # Without a local list of the name it is the registry's that is shown.
            remote = json.loads(await sampan("inspect", name))
            assert [each["platform"]["architecture"] for each in remote["manifests"]] == ["amd64", "arm64"]
            details = json.loads(await sampan("inspect", "-v", name))
            assert details == json.loads(await docker("inspect", "--insecure", "-v", name))

    asyncio.run(run())

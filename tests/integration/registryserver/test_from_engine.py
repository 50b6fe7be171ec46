"""The engine's own images served as a registry: no second copy, nothing that is not named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from image_engine import ImageEngine
from registry_requests import code_of, registry

pytestmark = pytest.mark.root


def test_another_engine_pulls_what_this_one_has(
    make_image_engine: Callable[..., ImageEngine], image: bytes
) -> None:
    owner, receiver = make_image_engine(), make_image_engine()
    owner.docker("load", stdin=image)
    owner.docker("tag", "source:1", "elsewhere.example/team/app:2")

    async def pull() -> None:
        import asyncio

        async with registry(owner.root / "unused", from_engine=str(owner.root)) as ask:
            host = ask.base.removeprefix("http://")
            for name in ("source:1", "library/source:1", "team/app:2"):
                output = await asyncio.to_thread(receiver.docker, "pull", f"{host}/{name}")
                assert re.search(r"Digest: sha256:\w+", output)
            status, _, body = await ask("GET", "/v2/_catalog")
            assert (status, json.loads(body)) == (200, {"repositories": ["source", "team/app"]})
            assert json.loads((await ask("GET", "/v2/source/tags/list"))[2])["tags"] == ["1"]
            status, _, body = await ask("PUT", "/v2/source/manifests/2", b"{}")
            assert (status, code_of(body)) == (405, "UNSUPPORTED")
            assert (await ask("GET", "/v2/absent/manifests/1"))[0] == 404
            (layer,) = json.loads(owner.docker("image", "inspect", "source:1"))[0]["RootFS"]["Layers"][:1]
            assert (await ask("HEAD", f"/v2/source/blobs/{layer}"))[0] == 200
            assert (await ask("HEAD", f"/v2/other/blobs/{layer}"))[0] == 404
        assert not (owner.root / "unused").exists()
        assert not (owner.root / "no-registry-here").exists()

    import asyncio

    asyncio.run(pull())

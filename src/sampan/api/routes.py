"""Every route of the API, from the modules that serve them."""

from __future__ import annotations

from sampan.api import (
    archive,
    build,
    buildkit,
    commit,
    containers,
    exec,
    images,
    networks,
    registries,
    streams,
    system,
    unsupported,
    volumes,
)
from sampan.api.router import Router


def all_routes() -> Router:
    """One router with everything."""
    router = Router()
    for module in (
        containers,
        streams,
        archive,
        exec,
        registries,
        images,
        build,
        buildkit,
        commit,
        networks,
        volumes,
        system,
        unsupported,
    ):
        router.merge(module.router)
    return router

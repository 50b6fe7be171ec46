"""Programs for another platform than this machine's: whether anything here can run them, said before they are started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.errors import NotSupported
from sampan.linux import binfmt
from sampan.linux.path import absolute, open_in_root, reopen
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.oci import defaults
from sampan.ops.choosing import open_source

if TYPE_CHECKING:
    from sampan.ops.trees import Trees
    from sampan.solver.interface import Tree

_SCRIPTS_DEEP = 4
_FIRST_LINE = 256


def runnable() -> list[Platform]:
    """Platforms whose programs run here: this machine's, and those with an emulator. Blocks."""
    found = platforms.runnable_on(platforms.local())
    for each in binfmt.emulators() or ():
        if each.everywhere:
            found.append(platforms.parse(f"linux/{each.architecture}"))
    return list(dict.fromkeys(found))


async def check_runnable(
    platform: Platform, trees: Trees, root: Tree, args: Sequence[str], env: Mapping[str, str]
) -> None:
    """Raises `NotSupported` for a program of a platform that nothing here can run; says what is missing.

    A platform's name may be wrong: what the program's own header says counts, where it can be read.
    """
    if platform.architecture in _natively():
        return
    emulators = await asyncio.to_thread(binfmt.emulators)
    mine = [each for each in emulators or () if each.architecture == platform.architecture]
    if emulators is None or any(each.everywhere for each in mine):
        return
    source = await trees.source(root)
    if await asyncio.to_thread(_architecture, source, args, env) in _natively():
        return
    raise NotSupported(_missing(platform, mine))


def _natively() -> set[str]:
    return {each.architecture for each in platforms.runnable_on(platforms.local())}


def _missing(platform: Platform, useless: Sequence[binfmt.Emulator]) -> str:
    begin = f"programs for {platform} cannot run on this machine ({platforms.local()}): "
    if useless:
        reason = (
            f"the emulator {useless[0].interpreter} (binfmt_misc entry {useless[0].name}) is registered without the flag F,"
            " so it is not found within containers"
        )
    else:
        reason = (
            f"no emulator is registered with the kernel (binfmt_misc has no entry"
            f" {binfmt.entry_name(platform.architecture)})"
        )
    return (
        f"{begin}{reason}; install the packages qemu-user-static and binfmt-support, or let an image register it:"
        f" docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
    )


def _architecture(source: Mapping[str, Any], args: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The processor that a program beneath a root is for; None when that cannot be said. Blocks."""
    root = open_source(dict(source))
    try:
        program = args[0]
        for _ in range(_SCRIPTS_DEEP):
            header = _beginning(root, program, env)
            if not header.startswith(b"#!"):
                return binfmt.architecture_of(header)
            words = header[2:].split(b"\n")[0].split()
            if not words:
                return None
            program = os.fsdecode(words[0])
        return None
    finally:
        os.close(root)


def _beginning(root: int, program: str, env: Mapping[str, str]) -> bytes:
    """The first bytes of a program, found as a shell finds it; nothing when there is none."""
    directories = env.get("PATH", defaults.PATH).split(":") if "/" not in program else [""]
    for directory in directories:
        try:
            found = open_in_root(root, absolute(f"{directory}/{program}"), os.O_PATH)
        except OSError:
            continue
        try:
            with open(reopen(found, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                return file.read(_FIRST_LINE)
        except OSError:
            continue  # a directory, a device
        finally:
            os.close(found)
    return b""

"""Shell completion: what may stand next on a command line.

The shells' scripts (`sampan completion bash`) call `sampan __complete WORDS…`, the last word being the unfinished one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli.command import CommandLineError
from sampan.cli.commands import GROUPS, TOP
from sampan.cli.flags import FlagError, parse
from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sampan.cli.command import Verb
    from sampan.cli.flags import Flag
    from sampan.client.api import Api

SCRIPTS = {
    "bash": """_sampan() {
    local IFS=$'\\n'
    COMPREPLY=($(sampan __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _sampan sampan
""",
    "zsh": """#compdef sampan
_sampan() {
    local -a found
    found=("${(@f)$(sampan __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found || _files
}
compdef _sampan sampan
""",
    "fish": """complete -c sampan -f -a '(sampan __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def candidates(words: Sequence[str], ask: Callable[[dict[str, Any], str], Iterable[str]]) -> list[str]:
    """Commands, flags, and the names of the engine's objects; nothing where only the file system knows more.

    `ask` gives the names of a kind (`CONTAINER`, `RUNNING`, `IMAGE`, `NETWORK`, `VOLUME`), under the global flags given.

    >>> candidates(["container", "unp"], lambda given, kind: [])
    ['unpause']
    >>> candidates(["stop", "w"], lambda given, kind: ["web", "db"])
    ['web']
    """
    from sampan.cli.main import GLOBAL_FLAGS, find

    *before, unfinished = words or [""]
    try:
        given, said = parse(GLOBAL_FLAGS, before, interspersed=False)
        if not said or (len(said) == 1 and said[0] in GROUPS):
            homes = GROUPS[said[0]][1] if said else (*TOP, *GROUPS, "serve")
            flags = () if said else GLOBAL_FLAGS
            return _starting(unfinished, _long(flags) if unfinished.startswith("-") else homes)
        found = find(said)
    except (CommandLineError, FlagError):
        return []
    if found is None:
        return []
    verb, path, rest = found
    if unfinished.startswith("-"):
        return _starting(unfinished, _long(verb.flags))
    kind = _kind_of(verb, path, rest)
    return _starting(unfinished, ask(given, kind)) if kind else []


def names(given: dict[str, Any], kind: str) -> Iterable[str]:
    """The names of a kind at the engine that the flags choose. None where no engine runs: a tab starts nothing."""
    from sampan.client.api import Api
    from sampan.client.endpoint import resolve

    if len(given["host"]) > 1:
        return []
    api = Api(resolve(next(iter(given["host"]), None), context=given["context"]))
    try:
        return _NAMES[kind](api)
    except (SampanError, OSError):
        return []
    finally:
        api.close()


def _containers(api: Api, **filters: list[str]) -> list[str]:
    found = api.call("GET", "/containers/json", {"all": True, "filters": filters})
    return [each["Names"][0].removeprefix("/") for each in found if each["Names"]]


def _images(api: Api) -> list[str]:
    tags = [tag for each in api.call("GET", "/images/json") for tag in each["RepoTags"] or ()]
    return [*tags, *(tag.removesuffix(":latest") for tag in tags if tag.endswith(":latest"))]


_NAMES: dict[str, Callable[[Api], list[str]]] = {
    "CONTAINER": _containers,
    "RUNNING": lambda api: _containers(api, status=["running"]),
    "STARTABLE": lambda api: _containers(api, status=["created", "exited"]),
    "PAUSED": lambda api: _containers(api, status=["paused"]),
    "IMAGE": _images,
    "NETWORK": lambda api: [each["Name"] for each in api.call("GET", "/networks")],
    "VOLUME": lambda api: [each["Name"] for each in api.call("GET", "/volumes")["Volumes"] or ()],
}
_WHICH = {
    **dict.fromkeys(("attach", "exec", "kill", "pause", "stop", "top"), "RUNNING"),
    "start": "STARTABLE",
    "unpause": "PAUSED",
}
"""Of verbs that take containers in a certain state alone."""
_VALUES = {"network": "NETWORK", "net": "NETWORK", "volumes_from": "CONTAINER", "link": "CONTAINER"}
"""Flags whose value is a name."""


def _kind_of(verb: Verb, path: str, before: Sequence[str]) -> str | None:
    """What the word after `before` names, by the flag that it is the value of, or by its place in the verb's usage."""
    try:
        _, arguments = parse(verb.flags, before, interspersed=verb.interspersed)
    except FlagError:
        last = next((flag for flag in verb.flags if before and before[-1] in flag.names), None)
        return _VALUES.get(last.parameter) if last else None
    places = [word for word in verb.usages[0].split() if word != "[OPTIONS]"]
    if len(arguments) >= len(places) and not (places and places[-1].endswith("...]")):
        return None
    place = places[min(len(arguments), len(places) - 1)]
    word = place.strip("[].").partition("[")[0].partition("|")[0].removeprefix("SOURCE_")
    name = path.rpartition(" ")[2]
    return _WHICH.get(name, word) if word == "CONTAINER" else word if word in _NAMES else None


def _long(flags: Sequence[Flag]) -> list[str]:
    return [name for flag in flags if not flag.hidden for name in flag.names if name.startswith("--")]


def _starting(prefix: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))

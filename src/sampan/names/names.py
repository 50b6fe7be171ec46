"""Names and ids of containers and volumes: what is allowed, and fresh ones."""

from __future__ import annotations

import re
import secrets

from sampan.errors import InvalidParameter

NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
"""Which characters a container's or volume's name is made of, as Docker prints it in its errors."""

_NAME = re.compile(NAME_PATTERN + "+")
_HEX_ID = re.compile(r"[0-9a-f]{64}")

_ADJECTIVES = tuple(
    """
    amber ample autumn balmy brave breezy bright brisk buoyant calm candid cheery civil clear clever coastal
    copper cosy crimson curious dapper daring deft eager early earnest easy elder fabled fair fleet fond
    frank gentle gilded glad golden grand hardy hazel hearty honest humble ivory jade jolly jovial keen kind
    laced lively lucid lucky lunar mellow merry mild misty modest neat nimble noble northern patient placid
    plucky polite prime proud quick quiet rapid ready restful ruby rustic sage scarlet serene sharp silent
    silver simple sleek smart snug solar southern spry stately steady stellar sturdy sunny swift tawny
    tender tidal tranquil trusty upbeat valiant velvet vivid warm western whimsical willing windy wise witty
    young zesty
    """.split()  # noqa: SIM905 - reads better as prose
)
_SURNAMES = tuple(
    """
    allen anning avicenna banneker bassi bernoulli bose boole brahe burnell carson cerf chandra chebyshev
    cook copernicus cray curie darwin dijkstra dirac drake edison elion engelbart euclid euler faraday
    fermat fermi feynman franklin galileo gama gauss germain goodall hamilton hawking heisenberg hertz
    hodgkin hooke hopper huygens hypatia jemison joliot kepler khayyam knuth kovalevskaya lamarr laplace
    leavitt lehmann liskov lovelace magellan maxwell mayer mcclintock meitner mendel mirzakhani morse napier
    newton nightingale nobel noether ohm pascal pasteur perlman planck polo ptolemy raman ride ritchie rubin
    sagan shannon somerville tesla tharp thompson torvalds turing villani volta wescoff wiles wilson wright
    yalow yonath zheng zuse
    """.split()  # noqa: SIM905 - reads better as prose
)


def check_container_name(name: str) -> str:
    """The name without the slash that clients may put before it.

    Raises InvalidParameter: "Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed".
    """
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidParameter(f"Invalid container name ({bare}), only {NAME_PATTERN} are allowed")
    return bare


def check_volume_name(name: str) -> str:
    """The name. Raises InvalidParameter in Docker's words."""
    if len(name) == 1:
        raise InvalidParameter(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'"{name}" includes invalid characters for a local volume name, only "{NAME_PATTERN}" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    return name


def random_name(attempt: int = 0) -> str:
    """A friendly name, `adjective_surname`; from the second attempt on with a digit, so that a free one is
    found.
    """
    base = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
    return f"{base}{secrets.randbelow(10)}" if attempt > 0 else base


def new_id() -> str:
    """64 random hex digits. Never all decimal in its short form, which would make a bad host name."""
    while True:
        identifier = secrets.token_hex(32)
        if not identifier[:12].isdecimal():
            return identifier


def is_id(text: str) -> bool:
    """Whether the text is a full id."""
    return _HEX_ID.fullmatch(text) is not None


def truncate_id(identifier: str) -> str:
    """The 12 digits that users see; an algorithm before a colon is dropped."""
    return identifier.rpartition(":")[2][:12]

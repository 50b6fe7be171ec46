"""Every capability that BuildKit has is either claimed, or said not to be there."""

from __future__ import annotations

from pathlib import Path

from sampan.buildkit.capabilities import FRONTEND, LLB

_NAMES = Path(__file__).parents[2] / "data" / "buildkit-capabilities.txt"
"""Of v0.34.2: which list, and the name."""

NOT_THERE = {
    "reference.attestations": "attestations",
    "source.metaresolver.image.attestations": "attestations",
    "source.local.metadatatransfer": "refused",
    "source.git.knownsshhosts": "host keys are not checked against a client's list",
    "source.git.mountsshsock": "the agent is the client's default",
    "source.git.signatureverify": "refused",
    "source.git.mtime": "refused",
    "source.git.fetchbycommit": "a commit is fetched as the remote allows",
    "source.git.bundle": "refused",
    "source.git.checkoutbundle": "refused",
    "source.http.signatureverify": "refused",
    "source.imageblob": "no such scheme",
    "source.policy.session": "refused",
    "exec.meta.network.proxy": "no such network",
    "cache.gha": "no such store of build cache",
    "cache.s3": "no such store of build cache",
    "cache.azblob": "no such store of build cache",
    "exporter.session": "exporters of a session",
    "gc.freespacefilter": "pruning by free space",
    "history.filter": "filters of the history",
}
"""And why."""


def test_each_name_of_buildkits_is_claimed_or_said_not_to_be_there() -> None:
    lines = [each.split() for each in _NAMES.read_text().splitlines()]
    theirs = {kind: {name for each, name in lines if each == kind} for kind in ("frontend", "llb")}
    assert set(FRONTEND) <= theirs["frontend"] and set(LLB) <= theirs["llb"]
    claimed = {*FRONTEND, *LLB}
    assert not claimed & set(NOT_THERE)
    assert claimed | set(NOT_THERE) == theirs["frontend"] | theirs["llb"]
    assert len(claimed) == len(FRONTEND) + len(LLB)

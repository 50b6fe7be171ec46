"""Nothing of Docker's surface is left out of the scenarios: each flag of its CLI rightly and wrongly, each part of a request."""

from __future__ import annotations

import subprocess

import pytest

from parity import flags, requests, scenario

_SWARM = "volumes of a Swarm, which is refused: there is none"
_ANY_TEXT = "any text will do"

NOT_RIGHT = {
    ("run", "--help"): "every verb's help is read here",
    ("run", "--disable-content-trust"): "the CLI's own, for a notary that Docker has given up",
    ("pull", "--disable-content-trust"): "as above",
    ("push", "--disable-content-trust"): "as above",
    ("build", "--disable-content-trust"): "as above",
    ("build", "--squash"): "needs an experimental dockerd",
    ("run", "--cpu-rt-runtime"): "dockerd's own fails on this kernel",
    ("run", "--cpu-count"): "refused: Windows only",
    ("run", "--cpu-percent"): "refused: Windows only",
    ("run", "--io-maxbandwidth"): "refused: Windows only",
    ("run", "--io-maxiops"): "refused: Windows only",
    ("run", "--gpus"): "needs a GPU; what is asked for is inspected",
    ("start", "--checkpoint"): "needs an experimental dockerd",
    ("start", "--checkpoint-dir"): "needs an experimental dockerd",
    ("network-create", "--ingress"): "needs a Swarm",
    **{
        ("volume-create", name): _SWARM
        for name in (
            *(
                "--availability",
                "--group",
                "--limit-bytes",
                "--required-bytes",
                "--scope",
                "--secret",
                "--sharing",
            ),
            *("--topology-preferred", "--topology-required", "--type"),
        )
    },
}
"""(verb, flag) → why no scenario uses it to success."""

NOT_WRONG = {
    ("run", "--cgroup-parent"): _ANY_TEXT,
    ("build", "--cgroup-parent"): _ANY_TEXT,
    ("build", "--cache-from"): _ANY_TEXT,
    ("import", "--message"): _ANY_TEXT,
    ("run", "--dns-option"): _ANY_TEXT,
    ("network-create", "--ipam-opt"): _ANY_TEXT,
}
"""(verb, flag that takes a value) → why no scenario has it refused."""


@pytest.fixture(scope="module")
def known() -> list[flags.Flag]:
    """All flags of the docker CLI's verbs."""
    client = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    if "version 28." not in client:
        pytest.skip(f"the scenarios are for the docker CLI 28, this is {client.strip()}")
    return [flag for verb in flags.VERBS for flag in flags.helped(verb)]


def test_every_flag_is_used_rightly_and_wrongly(known: list[flags.Flag]) -> None:
    uses = list(flags.used(scenario.load(), known))
    right = {(use.verb, use.flag) for use in uses if use.accepted}
    wrong = {(use.verb, use.flag) for use in uses if use.refused}
    all_of_them = {(flag.verb, flag.name) for flag in known}
    with_values = {(flag.verb, flag.name) for flag in known if flag.takes_value}
    assert all_of_them - right == NOT_RIGHT.keys() & (all_of_them - right), (
        "flags that no scenario uses to success"
    )
    assert with_values - wrong == NOT_WRONG.keys() & (with_values - wrong), (
        "flags that no scenario has refused"
    )
    assert all_of_them >= NOT_RIGHT.keys() | NOT_WRONG.keys(), "excuses for flags that there are not"


def test_every_parameter_and_field_of_a_request_is_sent() -> None:
    assert requests.defined() - requests.used(scenario.load()) == set()

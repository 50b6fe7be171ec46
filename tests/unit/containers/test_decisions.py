"""The pure decisions of a container's life: restarts, health, detaching, status lines."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.containers.attach import DetachFilter, parse_detach_keys
from sampan.containers.health import evaluate, probe_arguments
from sampan.containers.launch_errors import InvalidStart, exec_failure, start_failure
from sampan.containers.listing import status_text
from sampan.containers.merge import merge_image
from sampan.containers.record import HealthRecord, ProbeResult, RunState
from sampan.containers.restart_policy import Decision, after_exit, at_engine_start
from sampan.containers.signals import parse_signal
from sampan.containers.spec import merge_environment
from sampan.engineapi.container import ContainerConfig, HealthConfig, RestartPolicy
from sampan.engineapi.gomode import from_kernel as go_mode
from sampan.errors import InvalidParameter
from sampan.runtime.interface import LaunchError

SECOND = 1_000_000_000


def decide(
    name: str,
    *,
    maximum: int = 0,
    code: int = 1,
    restarts: int = 0,
    user: bool = False,
    ran: float = 0.1,
    last: float = 0,
) -> Decision:
    policy = RestartPolicy(name=name, maximum_retry_count=maximum)
    return after_exit(
        policy, exit_code=code, restarts=restarts, stopped_by_user=user, ran_for=ran, last_delay=last
    )


def test_back_off_doubles_to_a_minute_and_a_stable_run_resets_it() -> None:
    delays, last = [], 0.0
    for _ in range(12):
        last = decide("always", last=last).delay
        delays.append(last)
    assert delays[:3] == [0.1, 0.2, 0.4] and delays[-1] == 60.0
    assert decide("always", last=51.2, ran=10.0).delay == 0.1


def test_who_is_restarted() -> None:
    assert not decide("no").restart
    assert decide("always", code=0).restart and not decide("always", user=True).restart
    assert not decide("on-failure", code=0).restart
    assert decide("on-failure", maximum=2, restarts=1).restart
    assert not decide("on-failure", maximum=2, restarts=2).restart


def test_at_engine_start_only_always_forgets_that_the_user_stopped_it() -> None:
    def started(name: str, *, before: bool = True, user: bool = False, code: int = 1) -> bool:
        return at_engine_start(
            RestartPolicy(name=name), started_before=before, exit_code=code, restarts=0, stopped_by_user=user
        )

    assert started("always", user=True) and not started("always", before=False)
    assert started("unless-stopped", code=0) and not started("unless-stopped", user=True)
    assert (
        started("on-failure") and not started("on-failure", code=0) and not started("on-failure", user=True)
    )
    assert not started("no")


def probe(code: int, start: int = 100 * SECOND) -> ProbeResult:
    return ProbeResult(start=start, end=start, exit_code=code, output="")


def test_health_counts_failures_but_not_within_the_start_period() -> None:
    config = HealthConfig(test=["CMD", "x"], retries=2, start_period=10 * SECOND)
    health = HealthRecord()
    evaluate(health, probe(1, start=SECOND), config, started_at=0)
    assert (health.status, health.failing_streak) == ("starting", 0)
    evaluate(health, probe(1), config, started_at=0)
    assert (health.status, health.failing_streak) == ("starting", 1)
    evaluate(health, probe(-1), config, started_at=0)
    assert health.status == "unhealthy"
    assert evaluate(health, probe(0), config, started_at=0) == "unhealthy"
    assert (health.status, health.failing_streak) == ("healthy", 0)
    for _ in range(9):
        evaluate(health, probe(0), config, started_at=0)
    assert len(health.log) == 5


def test_probe_commands() -> None:
    assert probe_arguments(HealthConfig(test=["NONE"]), None) is None
    assert probe_arguments(HealthConfig(test=["CMD-SHELL", "a b"]), None) == ["/bin/sh", "-c", "a b"]
    assert probe_arguments(HealthConfig(test=["CMD", "a", "b"]), None) == ["a", "b"]


def test_detach_keys() -> None:
    assert parse_detach_keys("") == b"\x10\x11"
    assert parse_detach_keys("ctrl-a,b,ctrl-[") == b"\x01b\x1b"
    with pytest.raises(ValueError):
        parse_detach_keys("ctrl-$")


@given(st.lists(st.binary(max_size=5), max_size=12))
def test_the_detach_filter_loses_nothing_wherever_input_is_cut(pieces: list[bytes]) -> None:
    filter = DetachFilter(b"\x10\x11")
    passed = b""
    for piece in pieces:
        passed += filter.feed(piece)
        if filter.detached:
            break
    whole = b"".join(pieces)
    if filter.detached:
        assert whole.startswith(passed + b"\x10\x11")
    else:
        assert b"\x10\x11" not in whole and whole in (passed, passed + b"\x10")


def test_status_lines() -> None:
    now = 1000 * SECOND
    up = RunState(status="running", started_at=now - 3 * SECOND)
    assert status_text(up, now) == "Up 3 seconds"
    up.health = HealthRecord()
    assert status_text(up, now) == "Up 3 seconds (health: starting)"
    gone = RunState(status="exited", exit_code=3, started_at=1, finished_at=now - 60 * SECOND)
    assert status_text(gone, now) == "Exited (3) About a minute ago"
    assert status_text(RunState(), now) == "Created"


def test_the_users_configuration_is_laid_over_the_images() -> None:
    image = ContainerConfig(cmd=["sh"], entrypoint=["/init"], env=["A=1", "B=2"], labels={"x": "1"})
    user = ContainerConfig(env=["B=3"], labels={"y": "2"})
    merge_image(user, image)
    assert (user.entrypoint, user.cmd, user.env) == (["/init"], ["sh"], ["B=3", "A=1"])
    assert user.labels == {"x": "1", "y": "2"}
    own = ContainerConfig(entrypoint=["/mine"])
    merge_image(own, image)
    assert (own.entrypoint, own.cmd) == (["/mine"], None)
    with pytest.raises(InvalidParameter, match="no command specified"):
        merge_image(ContainerConfig(), ContainerConfig())


def test_environment_is_replaced_in_place() -> None:
    assert merge_environment(["PATH=/bin", "A=1"], ["A=2", "B=3", "PATH"]) == ["A=2", "B=3"]


def test_start_errors_have_dockers_words_and_codes() -> None:
    failure = start_failure(LaunchError('exec: "x": executable file not found in $PATH', "not-found"))
    assert isinstance(failure, InvalidStart) and failure.exit_code == 127
    assert str(failure) == (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
        'unable to start container process: error during container init: exec: "x": executable file not found in $PATH: unknown'
    )
    assert start_failure(LaunchError('exec: "/x": permission denied', "permission")).exit_code == 126


@pytest.mark.parametrize(
    ("reason", "kind", "code", "end"),
    [
        ('exec: "x": executable file not found in $PATH', "not-found", 127, "in $PATH: unknown"),
        ('exec: "/etc": is a directory', "permission", 126, "is a directory: unknown: permission denied"),
        ('exec: "/etc/passwd": permission denied', "permission", 126, "permission denied: unknown"),
        ('chdir to cwd ("/x") set in config.json failed: no such file or directory', "other", 127, ": unknown"),
        ("Cwd must be an absolute path", "other", 128, "exec failed: Cwd must be an absolute path: unknown"),
    ],
)  # fmt: skip
def test_why_an_exec_fails(
    reason: str, kind: Literal["not-found", "permission", "format", "other"], code: int, end: str
) -> None:
    failure = exec_failure(LaunchError(reason, kind))
    assert failure.exit_code == code
    assert str(failure).startswith("OCI runtime exec failed: exec failed: ") and str(failure).endswith(end)


def test_a_wrong_user_is_the_engines_own_message() -> None:
    failure = start_failure(LaunchError("unable to find user x: no matching entries in passwd file", "other"))
    assert isinstance(failure, InvalidStart)
    assert str(failure) == "unable to find user x: no matching entries in passwd file"


def test_signals() -> None:
    assert [parse_signal(text) for text in ("KILL", "sigterm", "9", "RTMIN+1")] == [9, 15, 9, 35]
    for bad in ("", "0", "ODD", "99"):
        with pytest.raises(InvalidParameter, match=r"invalid signal|does not support signal 99"):
            parse_signal(bad)


def test_go_file_modes() -> None:
    assert go_mode(0o100644) == 0o644
    assert go_mode(0o040755) == (1 << 31) | 0o755
    assert go_mode(0o104755) == (1 << 23) | 0o755

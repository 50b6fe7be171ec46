"""kill -9 of the engine at every named step (`sampan.faults`), then a start on what it left.

Each test: a container runs and counts; the engine is started with one point armed and dies in the middle of a verb; the next engine
must find the running container, finish or forget the half-done work, and do the verb again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_audit import assert_settled
from faults.points import points
from registry_peer import DockerRegistry
from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = "docker run -d --name job -v kept:/kept -v /scratch --network net -p 127.0.0.1::80 busybox sleep 100"
BUILD = """
set -e
mkdir -p context && printf 'FROM busybox\nRUN echo made > /made\n' > context/Dockerfile
tar c -C context . | curl -s --unix-socket ${DOCKER_HOST#unix://} -H 'Content-Type: application/x-tar' \
    --data-binary @- 'http://docker/build?version=2&t=made:1'
docker image inspect made:1
"""
VERBS = {
    "create": RUN,
    "start": RUN,
    "join": RUN,
    "connect": f"{RUN} && docker network connect other job",
    "disconnect": f"{RUN} && docker network connect other job && docker network disconnect other job",
    "solver": BUILD,
    "stop": f"{RUN} && docker stop -t 0 job",
    "exit": f"{RUN} && docker kill job && docker wait job",
    "leave": f"{RUN} && docker kill job && docker wait job",
    "remove": f"{RUN} && docker rm -f -v job",
    "commit": f"{RUN} && docker exec job touch /made && docker commit job made:1",
    "load": "docker load -i extra.tar",
    "unpack": "docker load -i extra.tar",
    "pull": "docker pull $(cat registry)/extra:1",
    "network-create": "docker network create made",
    "network-remove": "docker network create made && docker network rm made",
    "volume-create": "docker volume create made",
    "volume-remove": "docker volume create made && docker volume rm made",
}
"""What makes the engine pass each family of points."""

FILL_REGISTRY = """
docker load -i extra.tar && docker tag extra:1 $(cat registry)/extra:1 && docker push $(cat registry)/extra:1
docker rmi -f extra:1 $(cat registry)/extra:1
"""

CLEAN = """
docker rm -f -v job; docker network rm made; docker volume rm -f made kept
docker rmi -f made:1 extra:1 $(cat registry)/extra:1; docker builder prune -af; true
"""


def test_every_family_of_points_has_a_verb() -> None:
    assert {point.partition(".")[0] for point in points()} <= VERBS.keys()


@pytest.mark.timeout(120)
def test_killed_at(
    point: str,
    make_engine: Callable[..., RunningEngine],
    docker_registry: DockerRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    engine = make_engine()
    (tmp_path / "extra.tar").write_bytes(_other_image())
    (tmp_path / "registry").write_text(docker_registry.host)
    if point.startswith("pull."):
        engine.shell(FILL_REGISTRY, tmp_path)
    for network in ("net", "other"):
        engine.docker("network", "create", network)
    engine.docker(
        "run",
        "-d",
        "--name",
        "keeper",
        "busybox",
        "sh",
        "-c",
        "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done",
    )
    engine.kill()

    monkeypatch.setenv("SAMPAN_FAULT_POINT", point)
    engine.start()
    verb = VERBS[point.partition(".")[0]]
    engine.shell(verb, tmp_path)
    assert engine.wait_dead(10), f"the engine never came to {point}"

    monkeypatch.delenv("SAMPAN_FAULT_POINT")
    engine.start()
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "keeper").stdout.strip() == "running"
    lines = engine.docker("logs", "keeper").stdout.split()
    assert lines == [str(number) for number in range(len(lines))], (
        "a line of the running container's log is lost"
    )
    assert_settled(engine)
    engine.shell(CLEAN, tmp_path)
    done = engine.shell(verb, tmp_path)
    assert done.returncode == 0, done.stderr
    engine.shell(CLEAN, tmp_path)
    engine.docker("rm", "-f", "keeper")
    assert_settled(engine)
    assert os.listdir(engine.data_root / "containers") == []
    assert engine.docker("volume", "ls", "-q").stdout == ""


def _other_image() -> bytes:
    from busybox_image import busybox_archive

    return busybox_archive("extra:1", {"etc/extra": os.urandom(1 << 16)})

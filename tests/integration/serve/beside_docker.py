"""Run by test_beside_docker.py inside namespaces that stand for a machine of its own: a real dockerd and Sampan on one host.

unshare --net --mount python beside_docker.py DIRECTORY IMAGE.TAR ORDER
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from running_engine import RunningEngine

PATIENCE = 40.0
OUTSIDE, HOST = "198.51.100.2", "198.51.100.1"


def run(*command: object, check: bool = True) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{command}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(true: Callable[[], object], otherwise: Callable[[], str]) -> None:
    """Wait for it. Fails with what `otherwise` says."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.1)


class Docker:
    """Debian's dockerd with a state of its own."""

    name = "docker"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.host = f"unix://{directory}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        directory = self._directory
        directory.mkdir(exist_ok=True)
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--data-root", directory / "data", "--exec-root", directory / "run"),
                    *("--pidfile", directory / "pid", "-H", self.host, "--storage-driver", "vfs"),
                    *("--config-file", directory / "daemon.json", "--bip", "172.31.254.1/24"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (directory / "daemon.json").write_text("{}")
        until(self._answers, lambda: self._log)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log
        return "Server" in run("docker", "-H", self.host, "version", check=False)

    @property
    def _log(self) -> str:
        return (self._directory / "log").read_text()[-2000:]

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(40) == 0

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


class Sampan(RunningEngine):
    """As the other one."""

    name = "sampan"


Engine = Docker | Sampan


def docker(engine: Engine, *arguments: str, check: bool = True) -> str:
    return run("docker", "-H", engine.host, *arguments, check=check)


def furnish(engine: Engine, image: Path) -> None:
    """A published server on the default bridge, another on a network of its own."""
    docker(engine, "load", "-i", str(image))
    docker(engine, "network", "create", "net")
    for name, network in (("web", "bridge"), ("inner", "net")):
        docker(
            engine,
            *("run", "-d", f"--name={name}", f"--net={network}", "-p", "80", "--restart=always", "busybox"),
            *("sh", "-c", f"trap exit TERM; echo {engine.name} {name} >/index.html; httpd -f -h / & wait"),
        )


def get(address: str, port: str, prefix: tuple[str, ...] = ()) -> str:
    request = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | busybox nc -w3 {address} {port} | tail -1"
    return run(*prefix, "sh", "-c", request, check=False).strip()


def traffic(engine: Engine) -> dict[str, str]:
    """What is answered, by the way that the request took."""
    answers = {}
    for name in ("web", "inner"):
        published = docker(engine, "port", name, "80/tcp", check=False).split()
        if not published:
            continue  # its restart is on the way
        port = published[0].rpartition(":")[2]
        answers[f"{name} from this host"] = get("127.0.0.1", port)
        answers[f"{name} from outside"] = get(HOST, port, ("ip", "netns", "exec", "outside"))
        inside = ("docker", "-H", engine.host, "exec", name)
        answers[f"{name} from its container by the host's address"] = get(HOST, port, inside)
        answers[f"{name} to outside"] = get(OUTSIDE, "80", inside)
    return answers


def flows(engine: Engine) -> None:
    """Everything answers, after a moment perhaps: rules follow other people's changes, servers need to start."""
    expected = {
        way: "outside" if way.endswith("to outside") else f"{engine.name} {way.split()[0]}"
        for name in ("web", "inner")
        for way in (
            f"{name} from this host",
            f"{name} from outside",
            f"{name} from its container by the host's address",
            f"{name} to outside",
        )
    }
    seen: dict[str, str] = {}

    def all_answer() -> bool:
        seen.clear()
        seen.update(traffic(engine))
        return seen == expected

    def wrong() -> str:
        answers = {way: seen.get(way) for way in expected if seen.get(way) != expected[way]}
        return f"{engine.name}: {answers}\n{engine.host}\n{run('nft', 'list', 'ruleset')}"

    until(all_answer, wrong)


def rules() -> list[str]:
    """Every rule of the machine without counts, ephemeral ports and the names that a restart changes."""
    lines, table = [], ""
    for line in run("nft", "-s", "list", "ruleset").splitlines():
        if line.startswith("table"):
            table = line
        elif line.strip() not in ("", "}"):
            lines.append(re.sub(r"counter|dport \d+", "", f"{table} {line.strip()}"))
    return lines


def rules_of(engine: Engine) -> list[str]:
    """Sampan's are those in its tables; everything that is not marked as Sampan's is the other's."""
    if isinstance(engine, Docker):
        return [line for line in rules() if "sampan" not in line]
    return [line for line in rules() if "sampan" in line.partition("{")[0]]


def difference(before: list[str], after: list[str]) -> str:
    return "\n".join(
        [f"- {line}" for line in before if line not in after]
        + [f"+ {line}" for line in after if line not in before]
    )


def both_flow(*engines: Engine) -> None:
    for engine in engines:
        flows(engine)


def links() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if not name.startswith("veth")}


def bridges(engine: Engine) -> set[str]:
    """Interfaces of an engine's networks."""
    return {f"br-{number[:12]}" for number in docker(engine, "network", "ls", "-q", "--no-trunc").split()}


def make_machine(directory: Path) -> None:
    """An uplink to a host outside, which does not know the way to containers: they must be masqueraded."""
    run("mount", "--make-rprivate", "/")
    kept = directory / "cgroups"
    kept.mkdir()
    run("mount", "--rbind", "/sys/fs/cgroup", kept)
    run("mount", "-t", "sysfs", "sysfs", "/sys")  # of this network namespace
    run("mount", "--rbind", kept, "/sys/fs/cgroup")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")  # dockerd's state too: its containerd wants short paths
    run("ip", "link", "set", "lo", "up")
    run("ip", "netns", "add", "outside")
    run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "outside")
    run("ip", "addr", "add", f"{HOST}/24", "dev", "uplink")
    run("ip", "link", "set", "uplink", "up")
    for command in (
        ("addr", "add", f"{OUTSIDE}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
    ):
        run("ip", "-n", "outside", *command)


def main(directory: Path, image: Path, order: str) -> None:
    make_machine(directory)
    (directory / "www").mkdir()
    (directory / "www" / "index.html").write_text("outside\n")
    server = subprocess.Popen(
        ["ip", "netns", "exec", "outside", "busybox", "httpd", "-f", "-h", str(directory / "www")]
    )
    dockerd, sampan = Docker(Path("/run/d")), Sampan(directory / "sampan")
    try:
        first, second = (dockerd, sampan) if order == "docker-first" else (sampan, dockerd)
        scenario(first, second, dockerd, sampan, image)
    finally:
        for engine in (dockerd, sampan):
            if engine._process is not None and engine._process.poll() is None:
                engine.kill()
        server.kill()


def scenario(first: Engine, second: Engine, dockerd: Docker, sampan: Sampan, image: Path) -> None:
    first.start()
    furnish(first, image)
    flows(first)
    alone = rules_of(first)
    second.start()
    furnish(second, image)
    both_flow(first, second)
    assert rules_of(first) == alone, difference(alone, rules_of(first))

    for leaving, staying in ((second, first), (first, second)):
        before = rules_of(staying)
        leaving.stop()
        flows(staying)
        assert rules_of(staying) == before, difference(before, rules_of(staying))
        if leaving is sampan:
            assert not [line for line in rules() if "sampan" in line]
            assert not [
                name
                for name in links()
                if name == sampan.bridge or (name.startswith("br-") and name not in bridges(dockerd))
            ]
        leaving.start()
        both_flow(first, second)

    sampan.kill()  # its containers, ports and rules stay
    both_flow(dockerd)
    sampan.start()
    both_flow(first, second)
    dockers = rules_of(dockerd)
    sampan.remove_everything()
    assert rules_of(dockerd) == dockers, difference(dockers, rules_of(dockerd))
    sampan.stop()
    flows(dockerd)
    assert rules() == dockers, difference(dockers, rules())
    for name in ("web", "inner"):
        docker(dockerd, "rm", "-f", name)
    dockerd.stop()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
print("passed")

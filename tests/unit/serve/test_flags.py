"""dockerd's command line: every flag of its help is known, and text becomes the value that daemon.json would hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sampan.errors import InvalidParameter
from sampan.serve import configuration, flags

DOCKERD_FLAGS = """
add-runtime allow-direct-routing authorization-plugin bip bip6 bridge bridge-accept-fwmark
cdi-spec-dir cgroup-parent config-file containerd containerd-namespace containerd-plugins-namespace
cpu-rt-period cpu-rt-runtime cri-containerd data-root debug default-address-pool
default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opt
default-runtime default-shm-size default-stop-timeout default-ulimit dns dns-opt dns-search exec-opt
exec-root experimental feature firewall-backend fixed-cidr fixed-cidr-v6 group help host
host-gateway-ip http-proxy https-proxy icc init init-path insecure-registry ip ip-forward
ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format
log-level log-opt max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr
mtu network-control-plane-mtu no-new-privileges no-proxy node-generic-resource nri-opts pidfile
raw-logs registry-mirror rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver
storage-opt swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy
userland-proxy-path userns-remap validate version
"""


def test_every_flag_of_dockerd_is_known() -> None:
    assert set(DOCKERD_FLAGS.split()) <= {flag.name for flag in flags.FLAGS + flags.PROGRAM_FLAGS}


def test_every_flag_is_in_the_usage() -> None:
    text = flags.usage()
    assert all(re.search(rf"--{flag.name}\b", text) for flag in flags.FLAGS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-D"], {"debug": True}),
        (["--debug=false"], {"debug": False}),
        (["-H", "unix:///a", "--host=tcp://b", "-H=fd://"], {"hosts": ["unix:///a", "tcp://b", "fd://"]}),
        (["--mtu", "1400"], {"mtu": 1400}),
        (["--default-shm-size=1g"], {"default-shm-size": 1 << 30}),
        (
            ["--log-opt", "max-size=10m", "--log-opt=max-file=3"],
            {"log-opts": {"max-size": "10m", "max-file": "3"}},
        ),
        (
            ["--default-ulimit", "nofile=10:20"],
            {"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}}},
        ),
        (
            ["--default-address-pool", "base=10.1.0.0/16,size=24"],
            {"default-address-pools": [{"base": "10.1.0.0/16", "size": 24}]},
        ),
        (
            ["--default-network-opt", "bridge=a=1", "--default-network-opt", "bridge=b=2"],
            {"default-network-opts": {"bridge": {"a": "1", "b": "2"}}},
        ),
        (
            ["--http-proxy", "http://p", "--no-proxy=x"],
            {"proxies": {"http-proxy": "http://p", "no-proxy": "x"}},
        ),
        (["--feature", "a=true", "--feature", "b"], {"features": {"a": True, "b": True}}),
        (["-p", "/pid"], {"pidfile": "/pid"}),
        (["-ldebug"], {"log-level": "debug"}),
    ],
)
def test_values(arguments: list[str], expected: dict[str, object]) -> None:
    assert flags.parse(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "unknown flag: --nonsense"),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z"),
        (["--mtu"], "flag needs an argument: --mtu"),
        (["--mtu", "many"], 'invalid argument "many" for "--mtu" flag'),
        (["--debug=perhaps"], 'invalid argument "perhaps" for "--debug" flag'),
        (["--log-opt", "novalue"], 'invalid argument "novalue" for "--log-opt" flag'),
        (["positional"], '"sampan serve" accepts no arguments'),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        flags.parse(arguments)


def load(tmp_path: Path, file: str, *arguments: str) -> configuration.Loaded:
    path = tmp_path / "daemon.json"
    path.write_text(file)
    return configuration.load(flags.parse(["--config-file", str(path), *arguments]))


def test_file_and_flags_are_joined(tmp_path: Path) -> None:
    config = load(tmp_path, '{"mtu": 1400, "labels": ["a=b"]}', "--debug").config
    assert (config.mtu, config.labels, config.debug) == (1400, ["a=b"], True)


@pytest.mark.parametrize(
    ("file", "arguments", "message"),
    [
        (
            '{"debug": true}',
            ["--debug"],
            "specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)",
        ),
        (
            '{"hosts": ["unix:///a"]}',
            ["-H", "unix:///b"],
            "hosts: (from flag: [unix:///b], from file: [unix:///a])",
        ),
        ('{"nonsense": 1}', [], "the following directives don't match any configuration option: nonsense"),
        ('{"mtu": "big"}', [], "mtu"),
        ("{", [], "unable to configure the engine with file"),
        ("[]", [], "must hold a JSON object"),
        ("{}", ["--log-level=loud"], "loud"),
        ("{}", ["--label", "bare"], "bad attribute format: bare"),
        ("{}", ["--max-concurrent-downloads=-1"], "invalid max concurrent downloads: -1"),
    ],
)
def test_refused_configurations(tmp_path: Path, file: str, arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        load(tmp_path, file, *arguments)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="no such file or directory"):
        configuration.load({"config-file": str(tmp_path / "none.json")})


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    warnings = load(tmp_path, '{"containerd": "/run/c.sock"}', "--userland-proxy-path=/x").warnings
    assert [line.split()[0] for line in warnings] == ["containerd", "userland-proxy-path"]


def test_reload_moves_only_what_dockerd_reloads(tmp_path: Path) -> None:
    given = flags.parse(["--config-file", str(tmp_path / "daemon.json"), "--mtu", "1300"])
    (tmp_path / "daemon.json").write_text('{"debug": false}')
    config = configuration.load(given).config
    (tmp_path / "daemon.json").write_text('{"debug": true, "bip": "10.9.0.1/24", "labels": ["x=y"]}')
    fresh, changed = configuration.reload(config, given)
    assert sorted(changed) == ["debug", "labels"]
    assert (fresh.debug, fresh.labels, fresh.bip, fresh.mtu) == (True, ["x=y"], "", 1300)


def test_add_runtime_registers_a_runtime(tmp_path: Path) -> None:
    config = load(
        tmp_path, '{"runtimes": {"crun": {"path": "/usr/bin/crun"}}}', "--add-runtime", "other=/bin/other"
    ).config
    assert {name: runtime.path for name, runtime in config.runtimes.items()} == {
        "crun": "/usr/bin/crun",
        "other": "/bin/other",
    }

"""dockerd's command line: every flag of its help is known, and text becomes the value that daemon.json would hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sampan.engine.config import EngineConfig, Proxies
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
        (["-Dl", "warn"], {"debug": True, "log-level": "warn"}),
        (["--nri-opts", "enable=true"], {"nri-opts": {"enable": True}}),
        (["--registry-mirror", "https://mirror"], {"registry-mirrors": ["https://mirror/"]}),
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
        (["--debug=perhaps"], 'invalid argument "perhaps" for "-D, --debug" flag'),
        (["--log-opt", "novalue"], 'invalid argument "novalue" for "--log-opt" flag'),
        (["-p"], "flag needs an argument: 'p' in -p"),
        (["--dns", "here"], 'invalid argument "here" for "--dns" flag: ParseAddr("here")'),
        (["--ip", "here"], 'invalid argument "here" for "--ip" flag: failed to parse IP: "here"'),
        (["--label", "bare"], 'invalid argument "bare" for "--label" flag: bad attribute format: bare'),
        (
            ["--dns-search", "a b"],
            'invalid argument "a b" for "--dns-search" flag: a b is not a valid domain',
        ),
        (["--registry-mirror", "mirror:5000"], 'invalid mirror: no scheme specified for "mirror:5000"'),
        (["--registry-mirror", "https://a:secret@m"], 'not allowed in URI "https://a:xxxxx@m"'),
        (["--default-address-pool", "base=10.0.0.0/8,size=x"], "invalid size value: x"),
        (["--default-address-pool", "base=10.0.0.0/8"], "base and size are both needed"),
        (["--feature", "x=perhaps"], 'strconv.ParseBool: parsing "perhaps": invalid syntax'),
        (["positional"], '"sampan serve" accepts no argument(s).'),
        (["--", "x"], '"sampan serve" accepts no argument(s).'),
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
        ("{", [], "unable to configure the Docker daemon with file"),
        ('{"dns": ["here"]}', [], 'ParseAddr("here"): unable to parse IP'),
        ('{"labels": ["bare"]}', [], "bad attribute format: bare"),
        ('{"labels": ["a=1", "a=2"]}', [], "conflict labels for a=2 and a=1"),
        ('{"hosts": ["udp://x"]}', [], "invalid bind address (udp://x): unsupported proto 'udp'"),
        ('{"hosts": ["tcp://:2375/x"]}', [], "should not contain a path element"),
        ('{"exec-opts": ["x"]}', [], "invalid exec-opt (x): must be formatted 'opt=value'"),
        ('{"exec-opts": ["x=y"]}', [], "invalid exec-opt (x=y): unknown option: 'x'"),
        (
            '{"default-ipc-mode": "x"}',
            [],
            'default IPC mode setting (x) is invalid; use "shareable" or "private"',
        ),
        (
            '{"default-cgroupns-mode": "x"}',
            [],
            'invalid default cgroup namespace (x): use "host" or "private"',
        ),
        (
            '{"firewall-backend": "x"}',
            [],
            'invalid firewall-backend: allowed values are "iptables" and "nftables"',
        ),
        ('{"bridge-accept-fwmark": "1/x"}', [], 'invalid firewall mask "1/x"'),
        ('{"mtu": -1}', [], "invalid default MTU: -1"),
        ('{"storage-driver": "zfs"}', [], 'configured driver "zfs" not available'),
        ('{"default-runtime": "kata"}', [], "specified default runtime 'kata' does not exist"),
        ('{"runtimes": {"runc": {"path": "/x"}}}', [], "runtime name 'runc' is reserved"),
        ('{"runtimes": {"x": {}}}', [], "runtime x: either a runtimeType or a path must be configured"),
        ('{"runtimes": {"x": {"path": "/x"}}}', ["--add-runtime=x=/y"], "runtime 'x' was already defined"),
        (
            '{"proxies": {"http-proxy": "http://u:p@a"}}',
            ["--http-proxy", "http://u:p@b"],
            "http-proxy: (from flag: http://xxxxx:xxxxx@b, from file: http://xxxxx:xxxxx@a)",
        ),
        ('{"proxies": {"ftp-proxy": "x"}}', [], "don't match any configuration option: ftp-proxy"),
        (
            '{"default-shm-size": "1g"}',
            ["--default-shm-size=2g"],
            "default-shm-size: (from flag: 2GiB, from file: 1g)",
        ),
        ('{"host-gateway-ip": "1.2.3.4", "host-gateway-ips": []}', [], "must not both be specified"),
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


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ('{"default-shm-size": "1g"}', "default_shm_size", 1 << 30),
        ('{"debug": null}', "debug", False),
        ('\ufeff{"mtu": 1400}', "mtu", 1400),
        ('{"host-gateway-ip": "1.2.3.4"}', "host_gateway_ips", ["1.2.3.4"]),
        ('{"deprecated-key-path": "/x", "mtu": 1300}', "mtu", 1300),
        ('{"tlsverify": false, "hosts": ["tcp://:1"]}', "tls", True),
        ('{"tls": true}', "hosts", ["tcp://localhost:2376"]),
        ('{"proxies": {"no-proxy": "a"}}', "proxies", Proxies(no_proxy="a")),
    ],
)
def test_the_file_as_dockerd_reads_it(tmp_path: Path, file: str, key: str, value: object) -> None:
    assert getattr(load(tmp_path, file).config, key) == value


def test_file_and_flags_each_give_a_proxy(tmp_path: Path) -> None:
    config = load(tmp_path, '{"proxies": {"http-proxy": "http://a"}}', "--no-proxy=b").config
    assert config.proxies == Proxies(http_proxy="http://a", no_proxy="b")


SUBJECTS_OF_OTHERS = {
    "authorization-plugin": "x",
    "containerd": "/x",
    "containerd-namespace": "x",
    "containerd-plugins-namespace": "x",
    "cpu-rt-period": "1",
    "cpu-rt-runtime": "1",
    "cri-containerd": "true",
    "exec-opt": "native.cgroupdriver=systemd",
    "firewall-backend": "iptables",
    "init-path": "/x",
    "metrics-addr": "127.0.0.1:1",
    "network-control-plane-mtu": "1400",
    "node-generic-resource": "x=y",
    "nri-opts": "enable=true",
    "rootless": "true",
    "selinux-enabled": "true",
    "storage-opt": "x=y",
    "swarm-default-advertise-addr": "x",
    "userland-proxy-path": "/x",
}
SAMPLES = {
    "add-runtime": "x=/x",
    "bridge-accept-fwmark": "0x1/0x1",
    "config-file": "",
    "default-address-pool": "base=10.9.0.0/16,size=24",
    "default-cgroupns-mode": "host",
    "default-ipc-mode": "shareable",
    "default-network-opt": "bridge=a=b",
    "default-runtime": "runc",
    "default-ulimit": "nofile=1:2",
    "feature": "x",
    "fixed-cidr-v6": "fd00::/64",
    "host": "unix:///x",
    "label": "a=b",
    "log-driver": "local",
    "log-format": "json",
    "log-level": "warn",
    "log-opt": "max-size=1m",
    "registry-mirror": "https://x",
    "storage-driver": "native",
}
BY_KIND = {"bool": "true", "int": "7", "bytes": "1m", "ip": "10.9.9.9", "addresses": "10.9.9.9"}


def test_every_flag_works_or_says_that_its_subject_is_missing(tmp_path: Path) -> None:
    for flag in flags.FLAGS:
        value = SUBJECTS_OF_OTHERS.get(flag.name) or SAMPLES.get(flag.name) or BY_KIND.get(flag.kind, "x")
        loaded = load(tmp_path, "", f"--{flag.name}={value}")
        said = [warning.split()[0] for warning in loaded.warnings]
        assert said == ([flag.key] if flag.name in SUBJECTS_OF_OTHERS else []), flag.name


def reloaded(tmp_path: Path, before: str, after: str, *arguments: str) -> EngineConfig:
    path = tmp_path / "daemon.json"
    given = flags.parse(["--config-file", str(path), *arguments])
    path.write_text(before)
    config = configuration.load(given).config
    path.write_text(after)
    return configuration.reload(config, given)


def test_reload_moves_only_what_dockerd_reloads(tmp_path: Path) -> None:
    fresh = reloaded(
        tmp_path,
        '{"debug": false}',
        '{"debug": true, "bip": "10.9.0.1/24", "labels": ["x=y"]}',
        "--mtu",
        "1300",
    )
    assert (fresh.debug, fresh.labels, fresh.bip, fresh.mtu) == (True, ["x=y"], "", 1300)


def test_what_the_file_no_longer_says_stays_but_for_what_dockerd_resets(tmp_path: Path) -> None:
    before = '{"debug": true, "shutdown-timeout": 3, "features": {"x": true}, "max-concurrent-uploads": 9}'
    fresh = reloaded(tmp_path, before, "{}", "--label=a=b")
    assert (fresh.debug, fresh.shutdown_timeout, fresh.labels) == (True, 3, ["a=b"])
    assert (fresh.features, fresh.max_concurrent_uploads) == ({}, 5)


@pytest.mark.parametrize("after", ["{", '{"labels": ["bare"]}', '{"mtu": 1}', '{"default-runtime": "none"}'])
def test_a_reload_of_what_a_start_would_refuse_is_refused(tmp_path: Path, after: str) -> None:
    with pytest.raises(InvalidParameter):
        reloaded(tmp_path, "{}", after, "--mtu", "1300")


def test_add_runtime_registers_a_runtime(tmp_path: Path) -> None:
    config = load(
        tmp_path, '{"runtimes": {"crun": {"path": "/usr/bin/crun"}}}', "--add-runtime", "other=/bin/other"
    ).config
    assert {name: runtime.path for name, runtime in config.runtimes.items()} == {
        "crun": "/usr/bin/crun",
        "other": "/bin/other",
    }

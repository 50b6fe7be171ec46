"""The flags of `run`, as docker's CLI reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.command import CommandLineError
from sampan.cli.options import body, limits, mounts, networks, ports, texts
from sampan.cli.values import read_cpus, read_memory
from sampan.cli.verbs.running import run
from sampan.errors import InvalidParameter


def parse(*words: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(arguments, flags) of a `run` command line."""
    flags, args = run.parse("sampan run", words)
    return args, flags


def created(*words: str) -> dict[str, Any]:
    """The body that `run` would send."""
    args, flags = parse(*words)
    image, *command = args
    return body.create_body(flags, image, command, detach=flags["detach"])


def test_everything_after_the_image_belongs_to_the_container() -> None:
    args, flags = parse("-it", "-p80:80", "--name", "x", "busybox", "ls", "-d", "--rm=maybe")
    assert args == ("busybox", "ls", "-d", "--rm=maybe")
    assert (flags["interactive"], flags["tty"], flags["detach"], flags["publish"]) == (
        True,
        True,
        False,
        ("80:80",),
    )


@pytest.mark.parametrize("word", ["--rm=true", "--rm=1", "--rm"])
def test_booleans_take_values(word: str) -> None:
    assert parse(word, "busybox")[1]["rm"] is True


def test_a_boolean_is_switched_off() -> None:
    assert parse("--sig-proxy=false", "--rm=false", "b")[1]["rm"] is False
    assert parse("--sig-proxy=false", "b")[1]["sig_proxy"] is False
    assert parse("b")[1]["sig_proxy"] is True


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["--foo", "b"], "unknown flag: --foo", 125),
        (["-Z", "b"], "unknown shorthand flag: 'Z' in -Z", 125),
        (
            ["--rm=xx", "b"],
            'invalid argument "xx" for "--rm" flag: strconv.ParseBool: parsing "xx": invalid syntax',
            125,
        ),
        (["-m", "abc", "b"], 'invalid argument "abc" for "-m, --memory" flag: invalid size: \'abc\'', 125),
        (["--name"], "flag needs an argument: --name", 125),
        (["-e"], "flag needs an argument: 'e' in -e", 125),
    ],
)
def test_dockers_words_for_mistakes(words: list[str], message: str, status: int) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse(*words)
    assert message in str(caught.value)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("--mount", "foo", "invalid field 'foo' must be a key=value pair"),
        ("--mount", "type=bind", "target is required"),
        (
            "--mount",
            "type=bind,src=/a,dst=/b,volume-nocopy=true",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        ("--ulimit", "x", "invalid ulimit argument: x"),
        (
            "--ulimit",
            "nofile=1:2:3",
            "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
        ),
        ("--ulimit", "nofile=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("--link", "", "empty string specified for links"),
        ("--link", "a:b:c", "bad format for links: a:b:c"),
        ("--sysctl", "foo.bar=1", "sysctl 'foo.bar=1' is not allowed"),
        ("--sysctl", "net.ipv4.ip_forward", "sysctl 'net.ipv4.ip_forward' is not allowed"),
        ("--dns", "x", "IP address is not correctly formatted: x"),
        ("--dns-search", "a b", "a b is not a valid domain"),
        ("--device-cgroup-rule", "c 1:3 rx", "invalid device cgroup format 'c 1:3 rx'"),
        ("--blkio-weight-device", "/dev/sda:5", "invalid weight for device: /dev/sda:5"),
        ("--device-read-bps", "x", "bad format: x"),
        ("--device-write-iops", "sda:1", "bad format for device path: sda:1"),
        ("-a, --attach", "foo", "valid streams are STDIN, STDOUT and STDERR"),
        ("-e, --env", "=x", "invalid environment variable: =x"),
        ("-l, --label", "=x", "invalid label '=x': empty name"),
        ("--add-host", "a:b", 'invalid IP address in add-host: "b"'),
        ("--gpus", "foo=1", "unexpected key 'foo' in 'foo=1'"),
        ("--shm-size", "-1", "invalid size: '-1'"),
        ("--network", "name=none,foo=1", "invalid field key foo"),
    ],
)
def test_values_are_refused_where_the_line_is_read(flag: str, text: str, message: str) -> None:
    with pytest.raises(CommandLineError) as caught:
        parse(f"{flag.rpartition(' ')[2]}={text}", "busybox")
    assert str(caught.value).startswith(
        f'invalid argument "{text}" for "{flag}" flag: {message}\n\nUsage:  sampan run '
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--pid x", "--pid: invalid PID mode"),
        ("--pid container:", "--pid: invalid PID mode"),
        ("--userns x", "--userns: invalid USER mode"),
        ("--cgroupns x", "--cgroupns: invalid CGROUP mode"),
        ("--mac-address x", "x is not a valid mac address"),
        ("-v /a:/b:ro:z", "invalid spec: /a:/b:ro:z: too many colons"),
        ("--rm --restart :3", "invalid restart policy format: no policy provided before colon"),
        ("--network none --network none", 'network "none" is specified multiple times'),
        (
            "--network none --network n",
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            "--expose x",
            'invalid range format for --expose: x, error: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (
            "--expose 80-70",
            "invalid range format for --expose: 80-70, error: invalid range specified for port: 80-70",
        ),
        ("--device /dev/null:/a:/b:/c", "bad format for path: /dev/null:/a:/b:/c"),
    ],
)
def test_what_does_not_go_together(words: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        created(*words.split(), "busybox")
    assert str(caught.value) == message


def test_capabilities_have_one_spelling() -> None:
    host = created("--cap-add", "net_admin", "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "all", "b")[
        "HostConfig"
    ]
    assert (host["CapAdd"], host["CapDrop"]) == (["CAP_NET_ADMIN", "CAP_SYS_ADMIN"], ["ALL"])


def test_streams_by_default() -> None:
    config = created("-i", "b")
    assert (config["AttachStdin"], config["StdinOnce"], config["AttachStdout"]) == (True, True, True)
    config = created("-d", "-i", "b")
    assert (config["OpenStdin"], config["AttachStdin"], config["AttachStdout"]) == (True, False, False)


def test_limits_arrive_as_numbers() -> None:
    host = created("-m", "64m", "--cpus", "1.5", "--memory-swap", "-1", "--pids-limit", "9", "b")[
        "HostConfig"
    ]
    assert (host["Memory"], host["NanoCpus"], host["MemorySwap"], host["PidsLimit"]) == (
        1 << 26,
        1_500_000_000,
        -1,
        9,
    )


def test_gpus() -> None:
    assert created("--gpus", "all", "b")["HostConfig"]["DeviceRequests"] == [
        {"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}
    ]
    request = created("--gpus", '"device=0,1",driver=nvidia,capabilities=compute', "b")["HostConfig"][
        "DeviceRequests"
    ][0]
    assert (request["DeviceIDs"], request["Driver"], request["Capabilities"]) == (
        ["0", "1"],
        "nvidia",
        [["compute", "gpu"]],
    )


def test_refusals() -> None:
    with pytest.raises(InvalidParameter, match="both --restart and --rm"):
        created("--rm", "--restart", "always", "b")


@pytest.mark.parametrize(
    ("spec", "pairs"),
    [
        ("80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("127.0.0.1:8080:80/udp", [("80/udp", "127.0.0.1", "8080")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("1000-1001:80-81", [("80/tcp", "", "1000"), ("81/tcp", "", "1001")]),
        ("1000-1009:80", [("80/tcp", "", "1000-1009")]),
    ],
)
def test_ports(spec: str, pairs: list[tuple[str, str, str]]) -> None:
    assert [(key, b["HostIp"], b["HostPort"]) for key, b in ports.parse_spec(spec)] == pairs


@pytest.mark.parametrize("spec", ["", "a", "99999:80", "80:99999", "1-2:80-90", "x:1:2", "80/icmp", "2-1"])
def test_ports_refused(spec: str) -> None:
    with pytest.raises(InvalidParameter):
        ports.parse_spec(spec)


@given(st.text(alphabet="0123456789:-/.[]tcpud", max_size=20))
def test_any_port_text_parses_or_is_refused(spec: str) -> None:
    try:
        ports.published([spec], [])
    except InvalidParameter:
        pass


def test_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mounts.split_volumes(["./a:/b", "cc:/d", "/e"]) == ([f"{tmp_path}/a:/b", "cc:/d"], {"/e": {}})
    assert mounts.parse_mount('type=volume,src=v,"dst=/a,b",volume-opt=o=x,ro') == {
        "Type": "volume",
        "Source": "v",
        "Target": "/a,b",
        "ReadOnly": True,
        "VolumeOptions": {"DriverConfig": {"Options": {"o": "x"}}},
    }
    for wrong in (
        "type=bind",
        "dst=/x,foo=1",
        "type=bind,dst=/x,volume-nocopy",
        "dst=/x,ro=2",
    ):
        with pytest.raises(InvalidParameter):
            mounts.parse_mount(wrong)


@given(st.text(max_size=30))
def test_any_mount_text_parses_or_is_refused(spec: str) -> None:
    try:
        mounts.parse_mount(spec)
    except InvalidParameter:
        pass


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWN", "k")
    monkeypatch.delenv("UNKNOWN", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\nKNOWN\nUNKNOWN\nB = x\n".replace("B = x", "B=x y"))
    given = parse("-e", "KNOWN", "-e", "UNKNOWN", "-e", "C=", "b")[1]["env"]
    assert texts.environment([str(file)], given) == [
        *("A=1", "KNOWN=k", "B=x y"),
        *("KNOWN=k", "UNKNOWN", "C="),
    ]
    file.write_text("A B=1\n")
    with pytest.raises(InvalidParameter, match="contains whitespaces"):
        texts.environment([str(file)], [])


def test_devices_restart_ulimits() -> None:
    assert limits.devices(["/dev/a:/dev/b:r", "v.com/c=d"]) == (
        [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
        [{"Driver": "cdi", "DeviceIDs": ["v.com/c=d"]}],
    )
    assert limits.restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    for wrong in ("nofile", "foo=1", "nofile=2:1", "nofile=a"):
        with pytest.raises(InvalidParameter):
            limits.ulimit(wrong)


def test_networks() -> None:
    _, flags = parse("--network", "name=n,alias=a,ip=10.0.0.9", "--network-alias", "b", "image")
    mode, endpoints = networks.networking(flags)
    assert mode == "n"
    assert endpoints == {"n": {"Aliases": ["a", "b"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    pools = networks.read_address_options(["10.0.0.0/24", "fd00::/64"], ["10.0.0.128/25"], ["fd00::1"], {})
    assert pools == [
        {"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25"},
        {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
    ]


def test_values() -> None:
    assert read_memory("-1") == -1
    with pytest.raises(ValueError, match="too precise"):
        read_cpus("0.0000000001")

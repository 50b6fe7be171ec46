"""The table of flags that `run` and `create` share."""

from __future__ import annotations

from sampan.cli.command import flags
from sampan.cli.flags import Flag, Value
from sampan.cli.options import kinds
from sampan.cli.values import BYTES, DECIMAL, DURATION, INT, STRING, UINT16


def _many(names: str, help: str, kind: Value = STRING) -> Flag:
    return Flag(names.split(), kind, help, repeated=True)


def _text(names: str, help: str, default: str = "") -> Flag:
    return Flag(names.split(), STRING, help, default=default)


def _number(names: str, help: str, default: int = 0) -> Flag:
    return Flag(names.split(), INT, help, default=default)


def _size(names: str, help: str) -> Flag:
    return Flag(names.split(), BYTES, help, default=0)


def _time(names: str, help: str) -> Flag:
    return Flag(names.split(), DURATION, help, default=0)


def _switch(names: str, help: str) -> Flag:
    return Flag(names.split(), None, help, default=False)


_TABLE = (
    _many("--add-host", "Add a custom host-to-IP mapping (host:ip)", kinds.EXTRA_HOST),
    _many("--annotation", "Add an annotation to the container (passed through to the OCI runtime)"),
    _many("-a --attach", "Attach to STDIN, STDOUT or STDERR", kinds.STREAM),
    Flag(
        ("--blkio-weight",),
        UINT16,
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
        default=0,
    ),
    _many("--blkio-weight-device", "Block IO weight (relative device weight)", kinds.DEVICE_WEIGHT),
    _many("--cap-add", "Add Linux capabilities"),
    _many("--cap-drop", "Drop Linux capabilities"),
    _text("--cgroup-parent", "Optional parent cgroup for the container"),
    _text("--cgroupns", "Cgroup namespace to use (host|private)"),
    _text("--cidfile", "Write the container ID to the file"),
    _number("--cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    _number("--cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    _number("--cpu-rt-period", "Limit CPU real-time period in microseconds"),
    _number("--cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    _number("-c --cpu-shares", "CPU shares (relative weight)"),
    Flag(("--cpus",), DECIMAL, "Number of CPUs", default=0),
    _text("--cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    _text("--cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    _many("--device", "Add a host device to the container"),
    _many("--device-cgroup-rule", "Add a rule to the cgroup allowed devices list", kinds.DEVICE_RULE),
    _many("--device-read-bps", "Limit read rate (bytes per second) from a device", kinds.BYTE_RATE),
    _many("--device-read-iops", "Limit read rate (IO per second) from a device", kinds.OPERATION_RATE),
    _many("--device-write-bps", "Limit write rate (bytes per second) to a device", kinds.BYTE_RATE),
    _many("--device-write-iops", "Limit write rate (IO per second) to a device", kinds.OPERATION_RATE),
    _switch("--disable-content-trust", "Skip image verification (always so)"),
    _many("--dns", "Set custom DNS servers", kinds.ADDRESS),
    _many("--dns-option", "Set DNS options"),
    _many("--dns-search", "Set custom DNS search domains", kinds.SEARCH_DOMAIN),
    _text("--domainname", "Container NIS domain name"),
    Flag(("--entrypoint",), STRING, "Overwrite the default ENTRYPOINT of the image"),
    _many("-e --env", "Set environment variables", kinds.ENVIRONMENT),
    _many("--env-file", "Read in a file of environment variables"),
    _many("--expose", "Expose a port or a range of ports"),
    Flag(("--gpus",), kinds.GPUS, "GPU devices to add to the container ('all' to pass all GPUs)"),
    _many("--group-add", "Add additional groups to join"),
    _text("--health-cmd", "Command to run to check health"),
    _time("--health-interval", "Time between running the check (ms|s|m|h)"),
    _number("--health-retries", "Consecutive failures needed to report unhealthy"),
    _time("--health-start-interval", "Time between running the check during the start period (ms|s|m|h)"),
    _time("--health-start-period", "Time to initialize before counting failures (ms|s|m|h)"),
    _time("--health-timeout", "Maximum time to allow one check to run (ms|s|m|h)"),
    _text("-h --hostname", "Container host name"),
    _switch("--init", "Run an init inside the container that forwards signals and reaps processes"),
    _switch("-i --interactive", "Keep STDIN open even if not attached"),
    _text("--ip", "IPv4 address (e.g., 172.30.100.104)"),
    _text("--ip6", "IPv6 address (e.g., 2001:db8::33)"),
    _text("--ipc", "IPC mode to use"),
    _text("--isolation", "Container isolation technology"),
    _size("--kernel-memory", "Kernel memory limit"),
    _many("-l --label", "Set meta data on a container", kinds.LABEL),
    _many("--label-file", "Read in a line delimited file of labels"),
    _many("--link", "Add link to another container", kinds.LINK),
    _many("--link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    _text("--log-driver", "Logging driver for the container"),
    _many("--log-opt", "Log driver options"),
    _text("--mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    _size("-m --memory", "Memory limit"),
    _size("--memory-reservation", "Memory soft limit"),
    _size("--memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    _number("--memory-swappiness", "Tune container memory swappiness (0 to 100)", default=-1),
    _many("--mount", "Attach a filesystem mount to the container", kinds.MOUNT),
    _text("--name", "Assign a name to the container"),
    _many("--network --net", "Connect a container to a network", kinds.NETWORK),
    _many("--network-alias --net-alias", "Add network-scoped alias for the container"),
    _switch("--no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    _switch("--oom-kill-disable", "Disable OOM Killer"),
    _number("--oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    _text("--pid", "PID namespace to use"),
    _number("--pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    _text("--platform", "Set platform if server is multi-platform capable"),
    _switch("--privileged", "Give extended privileges to this container"),
    _many("-p --publish", "Publish a container's port(s) to the host"),
    _switch("-P --publish-all", "Publish all exposed ports to random ports"),
    _text("--pull", 'Pull image before running ("always", "missing", "never")', default="missing"),
    _switch("-q --quiet", "Suppress the pull output"),
    _switch("--read-only", "Mount the container's root filesystem as read only"),
    _text("--restart", "Restart policy to apply when a container exits", default="no"),
    _switch("--rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    _text("--runtime", "Runtime to use for this container"),
    _many("--security-opt", "Security Options"),
    Flag(("--shm-size",), kinds.SHM_SIZE, "Size of /dev/shm", default=0),
    _text("--stop-signal", "Signal to stop the container"),
    Flag(("--stop-timeout",), INT, "Timeout (in seconds) to stop a container"),
    _many("--storage-opt", "Storage driver options for the container"),
    _many("--sysctl", "Sysctl options", kinds.SYSCTL),
    _many("--tmpfs", "Mount a tmpfs directory"),
    _switch("-t --tty", "Allocate a pseudo-TTY"),
    _many("--ulimit", "Ulimit options", kinds.ULIMIT),
    _switch("--use-api-socket", "Bind the API socket into the container: not supported"),
    _text("-u --user", "Username or UID (format: <name|uid>[:<group|gid>])"),
    _text("--userns", "User namespace to use"),
    _text("--uts", "UTS namespace to use"),
    _many("-v --volume", "Bind mount a volume"),
    _text("--volume-driver", "Optional volume driver for the container"),
    _many("--volumes-from", "Mount volumes from the specified container(s)"),
    _text("-w --workdir", "Working directory inside the container"),
)


container_flags = flags(*_TABLE)
"""Gives a command all of them; their values arrive as keyword arguments named after the (first) long name."""

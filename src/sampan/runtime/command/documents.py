"""spec and features: the documents that this runtime writes of itself."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from sampan.linux.capabilities import NAMES
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.main import Context

SPEC_VERSION = "1.2.1"
HOOKS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


def features(context: Context, options: Parsed) -> None:
    """Print the features document (features.md of the runtime specification)."""
    from sampan.runtime.container.mountoptions import known_options

    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": HOOKS,
        "mountOptions": known_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {"dev.sampan.version": __version__},
    }
    sys.stdout.write(json.dumps(document, indent=4) + "\n")


def _seccomp() -> dict[str, Any]:
    from sampan.seccomp.architectures import BY_OCI_NAME
    from sampan.seccomp.compiler import ACTIONS, FLAGS
    from sampan.seccomp.profile import host_kernel

    operators = "EQ GE GT LE LT MASKED_EQ NE"
    since = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": (5, 19)}
    return {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": ["SCMP_CMP_" + name for name in operators.split()],
        "archs": sorted(BY_OCI_NAME),
        "knownFlags": list(FLAGS),
        "supportedFlags": [name for name in FLAGS if host_kernel() >= since.get(name, (0, 0))],
    }


def spec(context: Context, options: Parsed) -> None:
    """Write a `config.json` that runs `sh` in the bundle's `rootfs`, and refuse to overwrite one."""
    bundle = options.text("bundle")
    if bundle and not os.path.isdir(bundle):
        context.fail(
            f"chdir {bundle}: {'not a directory' if os.path.exists(bundle) else 'no such file or directory'}"
        )
    path = os.path.join(bundle or ".", "config.json")
    document = example_spec(rootless=options.flag("rootless"))
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(document, indent="\t"))
    except FileExistsError:
        context.fail("File config.json exists. Remove it first")
    except OSError as error:
        context.fail(f"open {path}: {(error.strerror or '').lower()}")


def example_spec(*, rootless: bool) -> dict[str, Any]:
    """The spec to start from: least privileges, a read-only root."""
    from sampan.oci import defaults

    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    mounts: list[Any] = list(defaults.mounts())
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in namespaces],
        "maskedPaths": defaults.masked_paths(),
        "readonlyPaths": defaults.readonly_paths(),
    }
    if rootless:
        del linux["resources"]
        linux["namespaces"] = [{"type": name} for name in namespaces if name != "network"] + [
            {"type": "user"}
        ]
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        mounts = [_rootless_mount(mount) for mount in mounts]
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=" + defaults.PATH, "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sampan",
        "mounts": mounts,
        "linux": linux,
    }


def _rootless_mount(mount: dict[str, Any]) -> dict[str, Any]:
    """Without a network namespace sysfs cannot be mounted, only bound; without its group, no gid option."""
    if mount["destination"] == "/sys":
        return {
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        }  # fmt: skip
    options = [option for option in mount["options"] if not option.startswith("gid=")]
    return {**mount, "options": options}

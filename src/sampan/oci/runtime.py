"""The OCI runtime specification's documents as types: `config.json`, the state and the features document.

Plain TypedDicts, so that JSON in and out need no parser library in the zygote and its shims. Field names are
the specification's (https://github.com/opencontainers/runtime-spec, 1.2); everything is optional that the
specification's schema leaves optional. A document from outside goes through `sampan.oci.validation` first;
whoever holds a `Spec` may trust its shapes. Modules of the runtime import this one under TYPE_CHECKING only: making
forty TypedDict classes takes some milliseconds.
"""

from __future__ import annotations

from typing import Literal, Required, TypedDict

OCI_VERSION = "1.2.1"
"""The version of the runtime specification that Sampan writes and fully reads."""


class User(TypedDict, total=False):
    """Who the process is, in ids of the container; names were resolved before."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str
    """Windows only in the specification; Sampan's engine never sets it."""


class Box(TypedDict):
    """A terminal's size in characters."""

    height: int
    width: int


class Capabilities(TypedDict, total=False):
    """The five capability sets, as names with the prefix `CAP_`."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """One resource limit: `type` is `RLIMIT_NOFILE` and so on; 2**64-1 means unlimited."""

    type: str
    soft: int
    hard: int


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int}, total=False)
"""ioprio_set(2) for the process; in this form because `class` is a keyword."""


class Scheduler(TypedDict, total=False):
    """sched_setattr(2) for the process; runtime, deadline and period in nanoseconds."""

    policy: Required[str]
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


class CPUAffinity(TypedDict, total=False):
    """CPU lists (`0-3,7`) for exec'd processes, before and after they enter the container's cgroup."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """The program to execute and the credentials and limits that it gets."""

    cwd: Required[str]
    args: list[str]
    env: list[str]
    terminal: bool
    consoleSize: Box
    user: User
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    selinuxLabel: str
    oomScoreAdj: int
    scheduler: Scheduler
    ioPriority: IOPriority
    execCPUAffinity: CPUAffinity


class Root(TypedDict, total=False):
    """The root file system: a directory, relative to the bundle if not absolute."""

    path: Required[str]
    readonly: bool


class IDMapping(TypedDict):
    """`size` ids from `containerID` on are the host's from `hostID` on."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """One mount, done in the order of the list. `options` are fstab's plus the specification's extensions."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """A program of the host's, given the state document on stdin; `timeout` in seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """Programs by the moment at which they run."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


NamespaceType = Literal["mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"]


class Namespace(TypedDict, total=False):
    """A namespace to make, or, with `path`, to join."""

    type: Required[NamespaceType]
    path: str


class Device(TypedDict, total=False):
    """A device node to make: type is c, b, u (as c) or p; `fileMode` holds permission bits."""

    path: Required[str]
    type: Required[str]
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceCgroup(TypedDict, total=False):
    """A rule of the device list: absent type means all, absent major or minor (or -1) any."""

    allow: Required[bool]
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Memory limits in bytes; -1 is unlimited. `swap` is memory plus swap."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """CPU limits; quota, period, burst and the real-time pair in microseconds."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    """The number of tasks; 0 or less is unlimited."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """A block device's weight, 10 to 1000."""

    major: Required[int]
    minor: Required[int]
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict):
    """A block device's limit, in bytes or operations per second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Limits of block devices."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """Bytes of one huge page size (`2MB`)."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    """net_prio's priority of one interface."""

    name: str
    priority: int


class NetworkResources(TypedDict, total=False):
    """net_cls and net_prio, cgroup v1 only."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """Limits of one RDMA device."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """What the container may use: written to its cgroup."""

    devices: list[DeviceCgroup]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: NetworkResources
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class SeccompArg(TypedDict, total=False):
    """A condition on one argument of a system call."""

    index: Required[int]
    value: Required[int]
    valueTwo: int
    op: Required[str]


class SeccompSyscall(TypedDict, total=False):
    """One rule: these calls, on these conditions, get this action."""

    names: Required[list[str]]
    action: Required[str]
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """A system call filter."""

    defaultAction: Required[str]
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompSyscall]


class Personality(TypedDict, total=False):
    """personality(2): LINUX or LINUX32."""

    domain: Required[str]
    flags: list[str]


class TimeOffset(TypedDict, total=False):
    """What to add to a clock inside a time namespace."""

    secs: int
    nanosecs: int


class IntelRdt(TypedDict, total=False):
    """Cache and memory bandwidth allocation."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool


class MemoryPolicy(TypedDict, total=False):
    """set_mempolicy(2) for the container's init."""

    mode: Required[str]
    nodes: str
    flags: list[str]


class NetDevice(TypedDict, total=False):
    """An interface of the host's to move into the container, under another name if given."""

    name: str


class Linux(TypedDict, total=False):
    """Everything Linux knows about a container beside the process itself."""

    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, TimeOffset]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    cgroupsPath: str
    resources: Resources
    rootfsPropagation: str
    seccomp: Seccomp
    sysctl: dict[str, str]
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    personality: Personality
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy


class Spec(TypedDict, total=False):
    """A bundle's `config.json`."""

    ociVersion: Required[str]
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux


class State(TypedDict, total=False):
    """What `state` prints and what hooks read on stdin."""

    ociVersion: Required[str]
    id: Required[str]
    status: Required[Literal["creating", "created", "running", "stopped", "paused"]]
    pid: int
    bundle: Required[str]
    annotations: dict[str, str]


class Features(TypedDict, total=False):
    """What a runtime can do (features.md)."""

    ociVersionMin: Required[str]
    ociVersionMax: Required[str]
    hooks: list[str]
    mountOptions: list[str]
    annotations: dict[str, str]
    potentiallyUnsafeConfigAnnotations: list[str]
    linux: dict[str, object]

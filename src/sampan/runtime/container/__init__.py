"""What happens between fork and execve: the heart of the native OCI runtime.

Two processes take part. The **parent** (a shim, or `sampan-runtime`) is privileged and single-threaded; it opens
everything that is named by a *host* path. The **stub** is its child, cloned into the container's namespaces; it
builds the root file system, gives up its privileges and executes the program. They speak over one socket pair.

::

    with cgroup.entrance() as entrance:                                    # long before a container is wanted
        stub = prefork({"pid", "mount", "uts", "ipc", "network", "cgroup"}, entrance=entrance)
    console = stub.configure(config, stdio=(0, 1, 2), seccomp=program)     # container state: created
    stub.start()                                                           # running; LaunchError says why not

    child = prefork_join(stub.pid)                                         # exec: a further process
    console = child.configure_join(JoinConfig(...), stdio=...)
    child.start()

A path inside the container is resolved once, by openat2 beneath the root's descriptor, and from then on is that
descriptor; files of /proc are written through a descriptor of the host's genuine procfs. Neither ever goes through
a path that an image or a running container can change. Comments name the attack that each step stops.

====================  =====================================================================================
`stub`                the parent's side: prefork, configure, start, join
`remote`              starting a container that another process has made
`config`              what the parent tells the stub
`stubmain`            the stub's side: its life from clone to execve
`init`                … of a container's first process, up to the wait for start
`enter`               … of a further process (`exec`)
`departure`           … the last steps, common to both
`namespaces`          making and joining namespaces; id mappings; time offsets
`host`                what the parent opens for the stub: root file system, sources of bind mounts
`mountoptions`        fstab options to flags
`unsupported`         what is refused by name
`failure`             errors that name the step
`rootfs`              mounts, in order, beneath the root's descriptor; pivot_root; masked and read-only paths
`copyup`              a tmpfs that begins as a copy
`cgroupfs`            /sys/fs/cgroup as the container sees it
`devices`             device nodes, links in /dev, the console
`procfs`              the genuine /proc, by descriptor
`sysctls`             kernel parameters of the container's own namespaces
`users`               passwd and group of the image
`credentials`         ids, groups, the five capability sets, no-new-privileges, labels
`limits`              rlimits, scheduling, I/O priority, OOM score
`hooks`               programs of the host's at fixed moments
`program`             finding and executing the program; why that failed
`interpreter`         Python's own binary, out of the container's reach
====================  =====================================================================================
"""

"""Linux system calls that Python's `os` does not have, grouped in modules by subject.

Thin on purpose: one function per call, Python types in and out, `OSError` with errno (and file name where
there is one) on failure, no policy. Everything here is safe to import in the zygote: ctypes, os and nothing
else of weight.

====================  =====================================================================================
`libc`                the C library and the raw `syscall` door
`process`             unshare, setns, clone3, pidfd_*, prctl, close_range, identity of a process
`mount`               mount, umount2, the new mount API (open_tree … mount_setattr), pivot_root
`path`                openat2: resolving hostile paths beneath a root descriptor
`sockets`             JSON messages with descriptors over SEQPACKET sockets
`capabilities`        capability names and sets
`commandline`         what ps shows of this process
`keyring`             session keyrings
`chroot`              whether this process lives in one
`terminal`            pseudo terminals
`inotify`             file change notification
`binfmt`              emulators that the kernel starts for programs of other processors
====================  =====================================================================================
"""

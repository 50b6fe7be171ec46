"""System call filters: Docker's profiles, compiled by ourselves. `interface` tells the four steps."""

from sampan.seccomp.architectures import host_architecture
from sampan.seccomp.cache import cached_program, compiled_file, program_file, read_program
from sampan.seccomp.compiler import compile_filter
from sampan.seccomp.install import install, send_listener
from sampan.seccomp.interface import Program
from sampan.seccomp.profile import Profile, host_kernel, load_profile, parse_kernel, resolve

__all__ = [
    "Profile",
    "Program",
    "cached_program",
    "compile_filter",
    "compiled_file",
    "host_architecture",
    "host_kernel",
    "install",
    "load_profile",
    "parse_kernel",
    "program_file",
    "read_program",
    "resolve",
    "send_listener",
]

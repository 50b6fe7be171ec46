"""LLB: a build as a graph of operations, in BuildKit's form. Pure: messages, digests, graphs; nothing here does anything.

| module | what it knows |
| --- | --- |
| `ops.proto`, `ops_pb2` | the messages |
| `graph` | a `Definition` becomes vertices and edges, checked |
| `state` | making graphs in Python, as BuildKit's `client/llb` does in Go |
| `fileop` | the actions of a `FileOp`: copy, mkdir, mkfile, rm, symlink |
| `execop` | what a program runs with: mounts, network, user |

A vertex is named by the SHA-256 of its operation's bytes *as they came*, so that a client's digests are ours. Importing any of
these modules loads protobuf (30 ms): engines do it at the first build, never at their start.

    >>> from sampan.llb import state
    >>> from sampan.llb.execop import Command
    >>> built = state.image("docker.io/library/busybox:latest").run(Command(args=["touch", "/made"])).root
    >>> definition = state.definition(built)
"""

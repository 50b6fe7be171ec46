"""Containers made by another OCI runtime: runc, crun, or whatever speaks their command line.

A shim drives the program where it would else make the container itself: it writes an OCI bundle, calls `create`, `start`,
`exec`, `kill`, `pause`, `update` and `delete`, and becomes the parent of what the program leaves behind, because it is the
subreaper while the program runs. Streams, terminal, log, exit status and network stay the shim's business.

====================  =====================================================================================
`program`             one OCI runtime program: calling it, and what it says when it fails
`bundle`              config.json, root file system and network namespace for it
`words`               its messages as Docker shows them, and what they mean
`console`             receiving a terminal's master from it
====================  =====================================================================================
"""

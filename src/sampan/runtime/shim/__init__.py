"""One process per container: parent of its init, keeper of its stdio, pty, log and exit status.

A shim is forked from the zygote and outlives both it and the engine. It is one epoll loop, single-threaded, and
imports nothing after the fork: it goes on working when the package it came from is upgraded or deleted.

====================  =====================================================================================
`main`                the entry after the fork: park, wait for a launch, serve
`loop`                epoll, timers
`protocol`            the messages between engine and shim
`service`             which call does what
`parking`             everything that can be prepared before the container is known
`maker`, `making`     a child that makes the container and further processes: the shim's side, and its own
`rehearsal`           a shim's life gone through in the zygote; `rootrehearsal`: a container's root file system
`container`           the container: launch, start, exit, close
`supervised`          one process with its streams, from fork to exit status; execs and health probes
`streams`             pipes and terminals between a process and us
`pump`                output to log and attached clients, input from them
`record`              state and exit status as files in the bundle
`native`              the container, made by our own runtime
`foreign`             … or by runc or another OCI runtime's program (`sampan.runtime.foreign`)
`execs`               further processes: `docker exec`, health probes
`foreign_execs`       … by another runtime
====================  =====================================================================================
"""

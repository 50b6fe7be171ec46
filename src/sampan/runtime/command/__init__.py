"""`sampan-runtime`: the native OCI runtime as a program with runc's command line.

Docker, containerd and Podman drive an OCI runtime by this command line, so their containers can run on Sampan's
runtime (`dockerd --add-runtime sampan=/path/to/sampan-runtime`). Sampan's own engine does not go this way: its
shims call `sampan.runtime.container` directly.

====================  =====================================================================================
`entry`               the console script: a sealed interpreter, then `main`
`main`                options, dispatch, errors as runc reports them
`arguments`           the parser: runc's option syntax, help texts
`state`               the state directory: what is known of each container between two commands
`lifecycle`           create, run, start, kill, delete, pause, resume
`execute`             exec
`listing`             state, list, ps
`resources`           update, events
`documents`           spec, features
`terminal`            console sockets, and a foreground terminal
====================  =====================================================================================
"""

"""The fork server: a light, warm, single-threaded process that forks on the engine's behalf.

The engine never forks itself: it has threads, a large heap and descriptors of every client. The zygote has none
of that, so a fork of it costs a millisecond, and what it forks starts with everything imported.

`server`    the process: `python -I -m sampan.zygote`
`seed`      a copy of it that stands still, from which long-lived children are forked
`client`    the engine's side (asyncio): `Zygote.start`, `Zygote.fork` → `Child`
`workers`   functions run in a forked process: `Workers.run("module:function", arguments)`
`worker`    what such a process executes

A forked child belongs to the zygote until the zygote ends, and then to the machine's init: it outlives both
engine and zygote unless it chooses not to.
"""

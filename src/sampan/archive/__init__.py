"""Archives: OCI layers and `docker cp` streams against directories, hostile input assumed.

Jobs, each a function of a worker process (arguments and result are JSON):

- `apply.apply_job`: a layer stream onto a directory; gives diff id, digest and sizes of the same pass.
- `diff.diff_job`: what a directory changed against its parents, as a reproducible layer.
- `pack.pack_job`: a directory or a path of it as a tar (`docker cp` out, `export`).
- `unpack.unpack_job`: a plain tar into a path beneath a root (`docker cp` in).

The parts below them: `compression` (streams), `tarread` and `tarwrite` (the format), `beneath` (paths under a
root).
"""

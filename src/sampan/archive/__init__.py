"""Archives: OCI layers and `docker cp` streams against directories, hostile input assumed.

Jobs for `Workers.run`; arguments and result are JSON, descriptors as said (they are only borrowed):

`apply:apply_job` - a layer stream (fds: stream) onto a directory. Arguments: `target`, `whiteouts` (`overlay` or
`delete`), `parents` (directories below, nearest first) - all from `ApplyTarget.job_args()` - and optionally `diff_id`,
`digest`, `size` (what they must be), `max_bytes` (limit of what the files may take; default: the free room), `devices`
(`create`, `skip` or `refuse`). Result: `{diff_id, digest, size, uncompressed_size, entries, compression}`.
Raises InvalidParameter naming the entry; the caller then throws the directory away.

`diff:diff_job` - what a directory changed, as a reproducible layer (fds: output). Arguments: `job_args()`, `compression`
(`none`, `gzip`, `zstd`). Result as above.

`changes:changes_job` - the same as a list for `docker diff`. Result: `[{"Path", "Kind"}]`, kind 0 changed, 1 added,
2 deleted.

`pack:pack_job` - a path of a tree as a tar (fds: output, root directory): `docker cp` out, `export`. Arguments: `path`,
optionally `name` (of the top entry).

`pack:pack_trees_job` - whole trees as one tar (fds: output, roots): a build's results for its client. Arguments: `names` (the
directory of each, "" is the top), `mtime_ns` (of every file, or None).

`unpack:unpack_job` - a tar into a directory of a tree (fds: stream, root directory): `docker cp` in. Arguments: `path`,
optionally `no_overwrite`, `owner` ([uid, gid]).

The parts below them: `compression` (streams), `tarread` and `tarwrite` (the format), `beneath` (paths under a root).
"""

"""What the operations of LLB do: `sampan.solver.interface.Operation`, by kind.

| module | what it does |
| --- | --- |
| `operations` | from a vertex to its operation |
| `trees` | file trees as mounts, as roots for workers, as new snapshots |
| `images` | `docker-image://` |
| `local` | `local://`: a client's directories |
| `directories` | what stays between builds: clients' files, cache mounts |
| `fetching` | `http://`, `https://` |
| `repositories`, `git_jobs` | `git://` |
| `run`, `sandbox`, `mounts`, `caches` | a program, as confined as a container's |
| `files` | file operations; `file_jobs`, `copier`, `choosing` do them in a worker |
| `digests`, `digest_jobs` | what identifies files |
| `layering`, `layer_jobs` | a result's layers as blobs, compressed and dated as asked |
| `merge` | layers over one another, and what one has more than another |
"""

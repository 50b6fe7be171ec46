"""A registry of one's own: `sampan registry serve`, the OCI distribution specification 1.1 over a directory on disk.

The directory is distribution's (Docker's registry:2 and 3): either program serves what the other has stored, and its
`config.yml` and `REGISTRY_…` variables are understood. `paths` says where things are, `files` and `uploads` write them,
`repositories` is the content; `access` says who may what, `collection` frees what nothing needs, `app` is the HTTP face.
"""

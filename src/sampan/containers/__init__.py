"""Containers: their life from create to remove, composed from images, volumes, networks and the runtime.

Start at `service.ContainerService`; `record` is what is stored, `container` what lives in memory, `spec` turns a
configuration into an OCI runtime spec, and the other modules are the verbs.
"""

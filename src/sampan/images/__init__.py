"""Images: names, manifests and layers, and what Docker does with them.

`interface` is the seam to the services above, `service` puts the parts together. Each verb has a module:
`resolution`, `unpacking`, `listing`, `inspection`, `history`, `removal`, `pruning`, `loading`, `saving`,
`importing`, `committing`; `collection` frees what nothing refers to. `bootstrap` runs on the client's side
and makes base images from distribution packages.
"""

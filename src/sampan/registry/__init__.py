"""A client of container registries: the OCI distribution protocol and what Docker adds to it.

Terms: a **registry** is a host that speaks the protocol; a **repository** is a name in it; an **endpoint** is one address at which
a repository can be reached (the registry itself, or a mirror of it). A **challenge** is what a registry answers to
somebody who has not proven who they are; a **realm** is the address of the token service that a challenge names.

::

    client = RegistryClient(RegistrySettings())
    repository = client.repository(parse_normalized("busybox"), Credentials())
    target = await repository.resolve("latest")                 # a descriptor
    document = await repository.manifest(target)                # bytes, verified
    async with repository.blob(layer, offset=0) as blob:        # bytes, for the caller to verify
        async for chunk in blob: ...

Nothing here knows the engine's stores: `sampan.images` pulls and pushes with it.
"""

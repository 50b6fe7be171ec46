"""Content: write-once blobs by digest, the leases that protect them, and the collection of what nobody needs.

Start with `sampan.content.interface`; `sampan.content.local` is the store in a local directory.
"""

"""What is said about a build's results beside them: how they were made (provenance), what they consist of (SBOM).

`asking` reads what a client wants to be told; `captures` gathers what a graph used, `predicates` says it as SLSA has it, `steps`
adds the graph itself; `statements` makes in-toto's statements of that, and the manifest by which an index carries them. Nothing
here runs anything, and nothing here has ever seen a secret: ids are all that a graph holds.
"""

"""Containers' output on disk, in the formats of Docker's `json-file` and `local` drivers.

Writing (in the shim; imports nothing heavy):

`lines`      a stream of bytes into lines, those over 16 KiB into partial pieces
`jsonfile`   the json-file format: encoding whole chunks at once, decoding
`localfile`  the local driver's binary format
`rotation`   the file: rotated by size, old ones numbered and compressed
`writer`     the three together: `open_writer(…).write("stdout", data)`

Reading (in the engine):

`entries`    bytes of a file into runs of entries, for both formats
`files`      the files of one log, opened together while they rotate
`spool`      parts of a file as a client's bytes, here or in a worker
`reader`     tail, since, until, follow, across rotations: `LogReader(driver, path).read(…)`
`present`    runs of entries as a client wants them: streams, times, timestamps, details, frames
"""

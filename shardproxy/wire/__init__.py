"""The frontend/backend protocol, version 3, without I/O: bytes in, messages out, and back.

`constants` has the type bytes, `encode` and `decode` the messages, `framing` and `startup` cut streams into messages,
`scram` authenticates. No module here opens a socket, waits, or knows what a statement means.
"""

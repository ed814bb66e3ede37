"""The frontend/backend protocol, version 3, without I/O: bytes in, messages out, and back.

`constants` names the bytes, `encode` and `decode` know the messages, `framing` and `startup` cut streams,
`scram` authenticates. No module here opens a socket, waits, or knows what a statement means.
"""

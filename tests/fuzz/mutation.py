"""Random damage to protocol messages: bits, bytes, lengths, and the order of whole messages."""

import random
from collections.abc import Sequence

EDGES = (0, 1, 3, 4, 5, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)


def damage(chosen: random.Random, messages: Sequence[bytes], most: int = 4) -> bytes:
    """Return the messages as one stream, after one to `most` damages."""
    parts = list(messages)
    for _ in range(chosen.randint(1, most)):
        if not parts:
            break
        at = chosen.randrange(len(parts))
        match chosen.randrange(8):
            case 0:
                del parts[at]
            case 1:
                parts.insert(chosen.randrange(len(parts) + 1), parts[at])
            case 2:
                other = chosen.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts[at] = _length(chosen, parts[at])
            case 4:
                parts[at] = parts[at][: chosen.randrange(len(parts[at]) + 1)]
            case _:
                parts[at] = _bytes(chosen, parts[at])
    return b"".join(parts)


def pieces(chosen: random.Random, data: bytes, most: int = 4) -> list[bytes]:
    """Cut a stream at random places."""
    cuts = sorted(chosen.randrange(len(data) + 1) for _ in range(chosen.randrange(most)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _length(chosen: random.Random, message: bytes) -> bytes:
    """Forge the length word behind the type byte, or the first four bytes."""
    at = 1 if len(message) >= 5 and chosen.random() < 0.9 else 0
    value = chosen.choice(EDGES) if chosen.random() < 0.7 else chosen.randrange(300)
    return message[:at] + value.to_bytes(4, "big") + message[at + 4 :]


def _bytes(chosen: random.Random, message: bytes) -> bytes:
    if not message:
        return bytes([chosen.randrange(256)])
    data = bytearray(message)
    at = chosen.randrange(len(data))
    match chosen.randrange(4):
        case 0:
            data[at] ^= 1 << chosen.randrange(8)
        case 1:
            data[at] = chosen.choice((0, 0xFF, 0x80, 0x27, 0x3B, 0x5C, 0x24, chosen.randrange(256)))
        case 2:
            data[at:at] = chosen.randbytes(chosen.randint(1, 6))
        case _:
            del data[at : at + chosen.randint(1, 6)]
    return bytes(data)

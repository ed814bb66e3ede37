#include "hash.h"

#include <string.h>

static inline uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The last 0 to 11 bytes; the lowest byte of c is reserved for the length. */
static inline uint64_t finish(const uint8_t *p, size_t len, uint32_t a, uint32_t b, uint32_t c)
{
    uint8_t tail[12] = {0};
    if (len != 0)
        memcpy(tail, p, len);
    a += load_le32(tail);
    b += load_le32(tail + 4);
    c += load_le32(tail + 8) << 8;
    SP_FINAL(a, b, c);
    return ((uint64_t)b << 32) | c;
}

uint64_t sp_hash_bytes(const uint8_t *data, size_t len, uint64_t seed)
{
    uint32_t a, b, c;
    sp_hash_start((uint32_t)len, seed, &a, &b, &c);
    while (len >= 12) {
        a += load_le32(data);
        b += load_le32(data + 4);
        c += load_le32(data + 8);
        SP_MIX(a, b, c);
        data += 12;
        len -= 12;
    }
    return finish(data, len, a, b, c);
}

void sp_hash_stream_start(sp_hash_stream *s, size_t len, uint64_t seed)
{
    sp_hash_start((uint32_t)len, seed, &s->a, &s->b, &s->c);
    s->filled = 0;
}

void sp_hash_stream_byte(sp_hash_stream *s, uint8_t byte)
{
    s->block[s->filled++] = byte;
    if (s->filled == 12) {
        s->a += load_le32(s->block);
        s->b += load_le32(s->block + 4);
        s->c += load_le32(s->block + 8);
        SP_MIX(s->a, s->b, s->c);
        s->filled = 0;
    }
}

uint64_t sp_hash_stream_end(sp_hash_stream *s)
{
    return finish(s->block, s->filled, s->a, s->b, s->c);
}

/*
 * PostgreSQL's extended hash functions with the seed of hash partitioning, bit for bit as a little-endian
 * server computes them (src/common/hashfn.c, Bob Jenkins' lookup3; src/include/common/hashfn.h).
 */
#ifndef SP_HASH_H
#define SP_HASH_H

#include <stddef.h>
#include <stdint.h>

/* HASH_PARTITION_SEED of src/include/catalog/partition.h */
#define SP_HASH_SEED UINT64_C(0x7A5B22367996DCFD)

static inline uint32_t sp_rot(uint32_t x, unsigned k)
{
    return (x << k) | (x >> (32u - k));
}

#define SP_MIX(a, b, c)                                                                                          \
    do {                                                                                                         \
        a -= c, a ^= sp_rot(c, 4), c += b;                                                                       \
        b -= a, b ^= sp_rot(a, 6), a += c;                                                                       \
        c -= b, c ^= sp_rot(b, 8), b += a;                                                                       \
        a -= c, a ^= sp_rot(c, 16), c += b;                                                                      \
        b -= a, b ^= sp_rot(a, 19), a += c;                                                                      \
        c -= b, c ^= sp_rot(b, 4), b += a;                                                                       \
    } while (0)

#define SP_FINAL(a, b, c)                                                                                        \
    do {                                                                                                         \
        c ^= b, c -= sp_rot(b, 14);                                                                              \
        a ^= c, a -= sp_rot(c, 11);                                                                              \
        b ^= a, b -= sp_rot(a, 25);                                                                              \
        c ^= b, c -= sp_rot(b, 16);                                                                              \
        a ^= c, a -= sp_rot(c, 4);                                                                               \
        b ^= a, b -= sp_rot(a, 14);                                                                              \
        c ^= b, c -= sp_rot(b, 24);                                                                              \
    } while (0)

/* The state after a non-zero seed, for a key of len bytes. */
static inline void sp_hash_start(uint32_t len, uint64_t seed, uint32_t *a, uint32_t *b, uint32_t *c)
{
    uint32_t x = 0x9e3779b9u + len + 3923095u, y = x, z = x;
    if (seed != 0) {
        x += (uint32_t)(seed >> 32);
        y += (uint32_t)seed;
        SP_MIX(x, y, z);
    }
    *a = x, *b = y, *c = z;
}

/* hash_bytes_uint32_extended */
static inline uint64_t sp_hash_uint32(uint32_t k, uint64_t seed)
{
    uint32_t a, b, c;
    sp_hash_start(4, seed, &a, &b, &c);
    a += k;
    SP_FINAL(a, b, c);
    return ((uint64_t)b << 32) | c;
}

/* Of hashint8extended: equal values of the three integer types hash alike. */
static inline uint32_t sp_fold_int64(int64_t value)
{
    uint64_t bits = (uint64_t)value;
    return (uint32_t)bits ^ (uint32_t)(bits >> 32) ^ (value >= 0 ? 0 : UINT32_MAX);
}

/* hashint8extended */
static inline uint64_t sp_hash_int64(int64_t value, uint64_t seed)
{
    return sp_hash_uint32(sp_fold_int64(value), seed);
}

/* hash_combine64 */
static inline uint64_t sp_hash_combine(uint64_t a, uint64_t b)
{
    return a ^ (b + UINT64_C(0x49a0f4dd15e5a8e3) + (a << 54) + (a >> 7));
}

/* hash_bytes_extended */
uint64_t sp_hash_bytes(const uint8_t *data, size_t len, uint64_t seed);

/* The same for bytes that come one by one: the length must be known at the start and be met exactly. */
typedef struct {
    uint32_t a, b, c;
    uint32_t filled;
    uint8_t block[12];
} sp_hash_stream;

void sp_hash_stream_start(sp_hash_stream *s, size_t len, uint64_t seed);
void sp_hash_stream_byte(sp_hash_stream *s, uint8_t byte);
uint64_t sp_hash_stream_end(sp_hash_stream *s);

#endif

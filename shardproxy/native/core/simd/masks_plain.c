/* The bitmaps without vector instructions: eight bytes in a 64-bit register. */
#include "masks_parts.h"

static inline uint64_t equal_plain(const uint64_t *words, uint8_t c)
{
    const uint64_t low = 0x7f7f7f7f7f7f7f7fULL, pattern = c * 0x0101010101010101ULL;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t x = words[i] ^ pattern;
        uint64_t zero = ~(((x & low) + low) | x | low) >> 7; /* bit 0 of each byte that is equal */
        bits |= (zero * 0x0102040810204080ULL >> 56) << (8 * i);
    }
    return bits;
}

static inline void load_plain(uint64_t *words, const uint8_t *p)
{
    memcpy(words, p, 64);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int i = 0; i < 8; i++)
        words[i] = __builtin_bswap64(words[i]);
#endif
}

typedef uint64_t block_plain_t[8];
#define SP_NAME plain
#define SP_TARGET
#define SP_BLOCK block_plain_t
#define SP_LOAD(b, p) load_plain(b, p)
#define SP_EQUAL(b, c) equal_plain(b, c)
#define SP_PREFIX_XOR(x) sp_prefix_xor(x)
#include "masks_body.h"

/* The bitmaps with NEON, which every AArch64 has. */
#include "masks_parts.h"

#ifdef SP_HAVE_NEON
#include <arm_neon.h>

typedef struct {
    uint8x16_t v[4];
} block_neon_t;

static inline uint64_t equal_neon(const block_neon_t *b, uint8_t byte)
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t select = vld1q_u8(bits), x = vdupq_n_u8(byte);
    uint8x16_t s0 = vandq_u8(vceqq_u8(b->v[0], x), select), s1 = vandq_u8(vceqq_u8(b->v[1], x), select);
    uint8x16_t s2 = vandq_u8(vceqq_u8(b->v[2], x), select), s3 = vandq_u8(vceqq_u8(b->v[3], x), select);
    uint8x16_t sum = vpaddq_u8(vpaddq_u8(s0, s1), vpaddq_u8(s2, s3));
    sum = vpaddq_u8(sum, sum);
    return vgetq_lane_u64(vreinterpretq_u64_u8(sum), 0);
}

static inline void load_neon(block_neon_t *b, const uint8_t *p)
{
    for (int i = 0; i < 4; i++)
        b->v[i] = vld1q_u8(p + 16 * i);
}

#define SP_NAME neon
#define SP_TARGET
#define SP_BLOCK block_neon_t
#define SP_LOAD(b, p) load_neon(&b, p)
#define SP_EQUAL(b, c) equal_neon(&b, c)
#define SP_PREFIX_XOR(x) sp_prefix_xor(x)
#include "masks_body.h"
#endif

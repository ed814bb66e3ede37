/* The bitmaps with SSE2, which every x86-64 has. */
#include "masks_parts.h"

#ifdef SP_HAVE_X86
#include <immintrin.h>

typedef struct {
    __m128i a, b, c, d;
} block_sse2_t;

static inline uint64_t equal_sse2(const block_sse2_t *v, uint8_t byte)
{
    __m128i x = _mm_set1_epi8((char)byte);
    uint64_t a = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v->a, x));
    uint64_t b = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v->b, x));
    uint64_t c = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v->c, x));
    uint64_t d = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v->d, x));
    return a | b << 16 | c << 32 | d << 48;
}

static inline void load_sse2(block_sse2_t *v, const uint8_t *p)
{
    v->a = _mm_loadu_si128((const __m128i *)p);
    v->b = _mm_loadu_si128((const __m128i *)(p + 16));
    v->c = _mm_loadu_si128((const __m128i *)(p + 32));
    v->d = _mm_loadu_si128((const __m128i *)(p + 48));
}

#define SP_NAME sse2
#define SP_TARGET
#define SP_BLOCK block_sse2_t
#define SP_LOAD(b, p) load_sse2(&b, p)
#define SP_EQUAL(b, c) equal_sse2(&b, c)
#define SP_PREFIX_XOR(x) sp_prefix_xor(x)
#include "masks_body.h"
#endif

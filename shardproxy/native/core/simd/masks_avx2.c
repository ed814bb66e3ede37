/* The bitmaps with AVX2; quote parity is a carry-less multiplication by all ones. */
#include "masks_parts.h"

#ifdef SP_HAVE_X86
#include <immintrin.h>

#define SP_TARGET __attribute__((target("avx2,pclmul,bmi,lzcnt,popcnt")))

typedef struct {
    __m256i a, b;
} block_avx2_t;

SP_TARGET static inline uint64_t equal_avx2(const block_avx2_t *v, uint8_t byte)
{
    __m256i x = _mm256_set1_epi8((char)byte);
    uint64_t a = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v->a, x));
    uint64_t b = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v->b, x));
    return a | b << 32;
}

SP_TARGET static inline void load_avx2(block_avx2_t *v, const uint8_t *p)
{
    v->a = _mm256_loadu_si256((const __m256i *)p);
    v->b = _mm256_loadu_si256((const __m256i *)(p + 32));
}

SP_TARGET static inline uint64_t prefix_xor_avx2(uint64_t x)
{
    __m128i product = _mm_clmulepi64_si128(_mm_set_epi64x(0, (long long)x), _mm_set1_epi8((char)0xff), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

#define SP_NAME avx2
#define SP_BLOCK block_avx2_t
#define SP_LOAD(b, p) load_avx2(&b, p)
#define SP_EQUAL(b, c) equal_avx2(&b, c)
#define SP_PREFIX_XOR(x) prefix_xor_avx2(x)
#include "masks_body.h"
#endif

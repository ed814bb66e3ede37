/* The bitmaps with AVX-512BW, whose comparisons give them directly. */
#include "masks_parts.h"

#ifdef SP_HAVE_X86
#include <immintrin.h>

#define SP_TARGET __attribute__((target("avx512f,avx512bw,avx2,pclmul,bmi,lzcnt,popcnt")))

SP_TARGET static inline uint64_t prefix_xor_avx512(uint64_t x)
{
    __m128i product = _mm_clmulepi64_si128(_mm_set_epi64x(0, (long long)x), _mm_set1_epi8((char)0xff), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

#define SP_NAME avx512
#define SP_BLOCK __m512i
#define SP_LOAD(b, p) b = _mm512_loadu_si512(p)
#define SP_EQUAL(b, c) _mm512_cmpeq_epi8_mask(b, _mm512_set1_epi8((char)(c)))
#define SP_PREFIX_XOR(x) prefix_xor_avx512(x)
#include "masks_body.h"
#endif

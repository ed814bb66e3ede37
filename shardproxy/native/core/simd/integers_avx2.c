/* Integer keys with AVX2's companions: sixteen digits are moved into place and combined by vector instructions. */
#include "digits.h"
#include "types/hash.h"
#include "integers.h"
#include "masks_parts.h"

#ifdef SP_HAVE_X86
#include <immintrin.h>

#define SP_TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))

/* 16 bytes from here on, at 16 - len: digits to the end, zeros (0x80 picks none) in front of them. */
static const uint8_t align_right[48] = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
};

SP_TARGET static inline int read_16_avx2(const uint8_t *p, size_t len, int64_t *out)
{
    const int negative = *p == '-';
    len -= (size_t)negative;
    __m128i digits = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(p + negative)), _mm_set1_epi8('0'));
    digits = _mm_shuffle_epi8(digits, _mm_loadu_si128((const __m128i *)(align_right + (len & 31))));
    __m128i over = _mm_subs_epu8(digits, _mm_set1_epi8(9));
    __m128i pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(10 + (1 << 8)));
    __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(100 + (1 << 16)));
    __m128i eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(10000 + (1 << 16)));
    uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);
    int64_t value = (int64_t)((both & UINT32_MAX) * 100000000u + (both >> 32));
    *out = negative ? -value : value;
    return _mm_testz_si128(over, over) & (len - 1 < 16); /* 0 wraps around */
}

#define SP_NAME avx2
#define SP_READ_16 read_16_avx2
#include "integers_body.h"
#endif

/* Decimal integers in their plain spelling, eight digits at a time: what nearly every integer key is. */
#ifndef SP_DIGITS_H
#define SP_DIGITS_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SP_SWAR 1

static inline uint64_t sp_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t sp_load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Eight characters, the first in the lowest byte: are all of them digits? */
static inline int sp_eight_digits(uint64_t v)
{
    return ((v & UINT64_C(0xF0F0F0F0F0F0F0F0)) |
            (((v + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) >> 4)) ==
           UINT64_C(0x3333333333333333);
}

/* Eight digits' values, the first and highest in the lowest byte. */
static inline uint64_t sp_combine_eight(uint64_t v)
{
    v = v * 10 + (v >> 8); /* pairs in every other byte */
    return (((v & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064)) +
            (((v >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001))) >>
           32;
}

static inline uint64_t sp_parse_eight(uint64_t v)
{
    return sp_combine_eight(v - UINT64_C(0x3030303030303030));
}

/* 1 to 8 characters moved to the upper bytes after leading '0's, without reading beyond them. */
static inline uint64_t sp_load_padded(const uint8_t *p, size_t len)
{
    uint64_t v;
    if (len == 8)
        return sp_load64(p);
    if (len >= 4)
        v = sp_load32(p) | sp_load32(p + len - 4) << (8 * (len - 4));
    else
        v = (uint64_t)p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) | (uint64_t)p[len - 1] << (8 * (len - 1));
    return v << (64 - 8 * len) | UINT64_C(0x3030303030303030) >> (8 * len);
}

/* Plain digits with an optional minus, up to 19 of them: what nearly every integer key is. */
static inline int sp_read_digits(const uint8_t *p, size_t len, int64_t *out)
{
    int negative = len != 0 && *p == '-';
    p += negative;
    len -= (size_t)negative;
    if (len - 1 >= 19) /* 0 wraps around */
        return 0;
    uint64_t value;
    if (len <= 8) {
        uint64_t v = sp_load_padded(p, len);
        if (!sp_eight_digits(v))
            return 0;
        value = sp_parse_eight(v);
    } else {
        uint64_t low = sp_load64(p + len - 8), middle, high = 0;
        if (len <= 16) {
            middle = sp_load_padded(p, len - 8);
        } else {
            uint64_t v = sp_load_padded(p, len - 16);
            if (!sp_eight_digits(v))
                return 0;
            high = sp_parse_eight(v);
            middle = sp_load64(p + len - 16);
        }
        if (!(sp_eight_digits(middle) & sp_eight_digits(low)))
            return 0;
        value = (high * 100000000u + sp_parse_eight(middle)) * 100000000u + sp_parse_eight(low);
        if (value > INT64_MAX)
            return 0;
    }
    *out = negative ? -(int64_t)value : (int64_t)value;
    return 1;
}

#ifdef __SIZEOF_INT128__
#define SP_SWAR_WIDE 1

/*
 * The same for up to 16 digits, without a branch on their number, which no processor can predict. Reads 17 bytes
 * whatever len is.
 */
static inline int sp_read_16_digits(const uint8_t *p, size_t len, int64_t *out)
{
    const uint64_t zeros = UINT64_C(0x3030303030303030), over_nine = UINT64_C(0x7676767676767676);
    const int negative = *p == '-';
    unsigned __int128 x;
    memcpy(&x, p + negative, 16);
    len -= (size_t)negative;
    x ^= (unsigned __int128)zeros << 64 | zeros;
    x <<= (128 - 8 * len) & 127; /* what follows the digits is shifted out, zeros come in front */
    uint64_t high = (uint64_t)x, low = (uint64_t)(x >> 64);
    uint64_t bad = ((high + over_nine) | high | (low + over_nine) | low) & UINT64_C(0x8080808080808080);
    int64_t value = (int64_t)(sp_combine_eight(high) * 100000000u + sp_combine_eight(low));
    *out = negative ? -value : value;
    return bad == 0 && len - 1 < 16; /* 0 wraps around */
}
#endif
#endif

#endif

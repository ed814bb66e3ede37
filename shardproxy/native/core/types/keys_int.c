#include "keys.h"

int32_t sp_refuse(const sp_settings *s, const uint8_t *p, size_t len)
{
    if (s->encoding != SP_ENC_SINGLE)
        return SP_INVALID;
    for (size_t i = 0; i < len; i++)
        if (p[i] >= 0x80)
            return SP_UNSUPPORTED;
    return SP_INVALID;
}

/* pg_strtoint64_safe and its shorter brothers: white space around, a sign, from 16 on 0x, 0o, 0b and `_`. */
int32_t sp_read_int(const sp_settings *s, const uint8_t *p, size_t len, int64_t min, int64_t max, int64_t *out)
{
    const uint8_t *whole = p;
    size_t whole_len = len;
    sp_trim(&p, &len);
    const uint8_t *end = p + len;
    int negative = 0;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';

    unsigned base = 10;
    int modern = s->server_version >= 16;
    if (modern && end - p >= 2 && p[0] == '0') {
        uint8_t mark = sp_lower(p[1]);
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
        if (base != 10)
            p += 2;
    }
    if (p == end || (base == 10 && *p == '_'))
        return sp_refuse(s, whole, whole_len);

    uint64_t value = 0;
    int overflow = 0;
    for (; p < end; p++) {
        if (*p == '_' && modern) {
            p++; /* digits must follow */
            if (p == end)
                return SP_INVALID;
        }
        int digit = sp_hex_digit(*p);
        if (digit < 0 || (unsigned)digit >= base)
            return sp_refuse(s, whole, whole_len);
        if (value > (UINT64_MAX - (unsigned)digit) / base)
            overflow = 1;
        else
            value = value * base + (unsigned)digit;
    }
    if (overflow)
        return SP_INVALID;
    if (negative) {
        if (value > 0 - (uint64_t)min)
            return SP_INVALID;
        *out = sp_signed64(0 - value);
        return SP_OK;
    }
    if (value > (uint64_t)max)
        return SP_INVALID;
    *out = sp_signed64(value);
    return SP_OK;
}

/* parse_bool_with_len behind boolin's trimming: any prefix of true, false, yes, no; on, of, off; 1, 0. */
int32_t sp_read_bool(const sp_settings *s, const uint8_t *p, size_t len, int64_t *out)
{
    static const struct {
        const char *word;
        size_t shortest;
        int64_t value;
    } words[] = {{"true", 1, 1}, {"false", 1, 0}, {"yes", 1, 1}, {"no", 1, 0},
                 {"on", 2, 1},   {"off", 2, 0},   {"1", 1, 1},   {"0", 1, 0}};
    const uint8_t *whole = p;
    size_t whole_len = len;
    sp_trim(&p, &len);
    for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
        size_t n = strlen(words[w].word), i = 0;
        if (len < words[w].shortest || len > n)
            continue;
        while (i < len && sp_lower(p[i]) == (uint8_t)words[w].word[i])
            i++;
        if (i == len) {
            *out = words[w].value;
            return SP_OK;
        }
    }
    return sp_refuse(s, whole, whole_len);
}

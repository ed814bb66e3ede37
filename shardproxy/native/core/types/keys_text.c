#include "keys.h"

const int8_t sp_hex_values[256] = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -1, -1, -1, -1, -1,
    -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

/* Length in characters of n bytes in the server's encoding; SP_ENC_OTHER is not asked. */
static size_t count_chars(const sp_settings *s, const uint8_t *p, size_t len)
{
    if (s->encoding == SP_ENC_SINGLE)
        return len;
    size_t chars = 0;
    for (size_t i = 0; i < len; i++)
        chars += (p[i] & 0xC0) != 0x80;
    return chars;
}

static size_t without_trailing_blanks(const uint8_t *p, size_t len)
{
    while (len != 0 && p[len - 1] == ' ')
        len--;
    return len;
}

/* varchar_input: blanks beyond the declared length are dropped, anything else there is an error. */
int32_t sp_read_text(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, size_t *out)
{
    if (len != 0 && memchr(p, 0, len) != NULL)
        return SP_INVALID;
    *out = len;
    if (typmod < 4 || len <= (size_t)(typmod - 4))
        return SP_OK;
    size_t limit = (size_t)(typmod - 4);
    size_t kept = without_trailing_blanks(p, len);
    if (s->encoding == SP_ENC_OTHER) /* without blanks to drop, the value stays or is refused as it is */
        return kept == len ? SP_OK : SP_UNSUPPORTED;
    size_t chars = count_chars(s, p, kept);
    if (chars > limit)
        return SP_INVALID;
    size_t blanks = limit - chars;
    *out = kept + (len - kept < blanks ? len - kept : blanks);
    return SP_OK;
}

/* bpchar_input; trailing blanks count neither for bpchareq nor for hashbpcharextended. */
int32_t sp_read_bpchar(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, size_t *out)
{
    if (len != 0 && memchr(p, 0, len) != NULL)
        return SP_INVALID;
    *out = without_trailing_blanks(p, len);
    if (typmod >= 4 && s->encoding != SP_ENC_OTHER && count_chars(s, p, *out) > (size_t)(typmod - 4))
        return SP_INVALID;
    return SP_OK;
}

/* The usual spelling: 36 characters, four hyphens. */
static int read_usual_uuid(const uint8_t *p, uint8_t out[16])
{
    static const uint8_t at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
    int bad = (p[8] ^ '-') | (p[13] ^ '-') | (p[18] ^ '-') | (p[23] ^ '-');
    for (int i = 0; i < 16; i++) {
        int high = sp_hex_digit(p[at[i]]), low = sp_hex_digit(p[at[i] + 1]);
        bad |= (high | low) < 0;
        out[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
    }
    return !bad;
}

/* string_to_uuid: 32 hex digits, optional braces, a hyphen allowed behind every fourth digit. */
int32_t sp_read_uuid(const uint8_t *p, size_t len, uint8_t out[16])
{
    if (len == 36 && read_usual_uuid(p, out))
        return SP_OK;
    const uint8_t *end = p + len;
    int braces = p < end && *p == '{';
    p += braces;
    for (int i = 0; i < 16; i++) {
        if (end - p < 2)
            return SP_INVALID;
        int high = sp_hex_digit(p[0]), low = sp_hex_digit(p[1]);
        if (high < 0 || low < 0)
            return SP_INVALID;
        out[i] = (uint8_t)(high << 4 | low);
        p += 2;
        if (p < end && *p == '-' && i % 2 == 1 && i < 15)
            p++;
    }
    if (braces && (p == end || *p++ != '}'))
        return SP_INVALID;
    return p == end ? SP_OK : SP_INVALID;
}

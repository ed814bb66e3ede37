/* uuid. Follows src/backend/utils/adt/uuid.c. */
#include "read.h"

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

/* string_to_uuid: 32 hex digits, optional braces, a hyphen allowed after every fourth digit. */
int32_t sp_read_uuid(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    uint8_t *out = d->buf;
    (void)s, (void)typmod;
    d->data = out;
    d->len = 16;
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

int32_t sp_receive_uuid(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 16)
        return SP_INVALID;
    memcpy(d->buf, p, 16);
    d->data = d->buf;
    d->len = 16;
    return SP_OK;
}

size_t sp_write_uuid(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            sp_put(&w, '-');
        sp_put_hex(&w, d->data[i]);
    }
    return w.len;
}

/* macaddr8. Follows src/backend/utils/adt/mac8.c. */
#include "read.h"

/*
 * Six or eight pairs of hexadecimal digits, each perhaps followed by a separator, the same all along; six are the
 * upper and lower half of an EUI-64. As in macaddr8_in, one character more at the end is not looked at.
 */
int32_t sp_read_macaddr8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    const uint8_t *whole = p, *end = p + len;
    uint8_t separator = 0;
    int n = 0;
    (void)typmod;
    d->data = d->buf;
    d->len = 8;
    while (p < end && sp_is_space(*p))
        p++;
    while (end - p >= 2) {
        const int high = sp_hex_digit(p[0]), low = sp_hex_digit(p[1]);
        if (n == 8 || high < 0 || low < 0)
            return sp_refuse(s, whole, len);
        d->buf[n++] = (uint8_t)(high << 4 | low);
        p += 2;
        if (p < end && (*p == ':' || *p == '-' || *p == '.')) {
            if (separator != 0 && separator != *p)
                return sp_refuse(s, whole, len);
            separator = *p++;
        }
        if ((n == 6 || n == 8) && p < end && sp_is_space(*p)) {
            while (p < end && sp_is_space(*p))
                p++;
            if (p != end)
                return sp_refuse(s, whole, len);
        }
    }
    if (n == 6) {
        memmove(d->buf + 5, d->buf + 3, 3);
        d->buf[3] = 0xFF;
        d->buf[4] = 0xFE;
    } else if (n != 8) {
        return sp_refuse(s, whole, len);
    }
    return SP_OK;
}

int32_t sp_receive_macaddr8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    static const uint8_t between[2] = {0xFF, 0xFE};
    (void)s, (void)typmod;
    if (len != 6 && len != 8)
        return SP_INVALID;
    memcpy(d->buf, p, 3);
    memcpy(d->buf + 3, len == 6 ? between : p + 3, 2);
    memcpy(d->buf + 5, p + len - 3, 3);
    d->data = d->buf;
    d->len = 8;
    return SP_OK;
}

size_t sp_write_macaddr8(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    for (int i = 0; i < 8; i++) {
        if (i != 0)
            sp_put(&w, ':');
        sp_put_hex(&w, d->data[i]);
    }
    return w.len;
}

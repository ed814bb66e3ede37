/* macaddr. Follows src/backend/utils/adt/mac.c. */
#include "read.h"

/*
 * macaddr_in reads by sscanf() with seven formats. Read here: 08:00:2b:1:2:3 and 08-00-2b-01-02-03 with one or two
 * digits each, and 08002b:010203, 08002b-010203, 0800.2b01.0203, 0800-2b01-0203, 08002b010203. A character that none
 * of the formats has is certainly refused; other arrangements of theirs are not known here.
 */
int32_t sp_read_macaddr(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    const uint8_t *whole = p;
    size_t whole_len = len;
    uint8_t separator = 0;
    uint32_t separated = 0; /* bit n: a separator stands before byte n */
    int n = 0, short_bytes = 0;
    (void)typmod;
    d->data = d->buf;
    d->len = 6;
    for (size_t i = 0; i < len; i++)
        if (sp_hex_digit(p[i]) < 0 && !sp_is_space(p[i]) && (p[i] == 0 || strchr(":-.+xX", p[i]) == NULL))
            return sp_refuse(s, whole, whole_len);
    sp_trim(&p, &len);
    const uint8_t *end = p + len;
    for (; p < end && n < 6; n++) {
        if (n != 0 && (*p == ':' || *p == '-' || *p == '.')) {
            if (separator != 0 && separator != *p)
                return SP_UNSUPPORTED;
            separator = *p++;
            separated |= 1u << n;
        }
        int high = p < end ? sp_hex_digit(p[0]) : -1, low = p + 1 < end ? sp_hex_digit(p[1]) : -1;
        if (high < 0)
            return SP_UNSUPPORTED;
        d->buf[n] = (uint8_t)(low < 0 ? high : high << 4 | low);
        short_bytes |= low < 0;
        p += low < 0 ? 1 : 2;
    }
    if (n != 6 || p != end)
        return SP_UNSUPPORTED;
    if (separated == 0x3E && separator != '.')
        return SP_OK;
    int known = separated == 0 || (separated == 0x08 && separator != '.') || (separated == 0x14 && separator != ':');
    return known && !short_bytes ? SP_OK : SP_UNSUPPORTED;
}

int32_t sp_receive_macaddr(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 6)
        return SP_INVALID;
    memcpy(d->buf, p, 6);
    d->data = d->buf;
    d->len = 6;
    return SP_OK;
}

size_t sp_write_macaddr(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    for (int i = 0; i < 6; i++) {
        if (i != 0)
            sp_put(&w, ':');
        sp_put_hex(&w, d->data[i]);
    }
    return w.len;
}

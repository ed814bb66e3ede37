/* bytea: the hex and the escape format. Follows src/backend/utils/adt/varlena.c and encode.c. */
#include "read.h"

enum { RAW, HEX, ESCAPE };

static int is_octal(uint8_t c, uint8_t last)
{
    return c >= '0' && c <= last;
}

/* byteain: checks the whole spelling and counts the bytes that it stands for; they are decoded one by one, later. */
int32_t sp_read_bytea(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    const uint8_t *end = p + len;
    size_t n = 0;
        d->escaped = ESCAPE;
    if (len >= 2 && p[0] == '\\' && p[1] == 'x') {
        d->escaped = HEX;
        d->data = p += 2;
        while (p < end) {
            if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') {
                p++;
                continue;
            }
            if (end - p < 2 || sp_hex_digit(p[0]) < 0 || sp_hex_digit(p[1]) < 0)
                return SP_INVALID;
            p += 2;
            n++;
        }
        d->len = n;
        return SP_OK;
    }
    d->data = p;
    while (p < end) {
        if (*p == 0)
            return SP_INVALID;
        if (*p != '\\')
            p++;
        else if (end - p >= 4 && is_octal(p[1], '3') && is_octal(p[2], '7') && is_octal(p[3], '7'))
            p += 4;
        else if (end - p >= 2 && p[1] == '\\')
            p += 2;
        else
            return SP_INVALID;
        n++;
    }
    d->len = n;
    return SP_OK;
}

int32_t sp_receive_bytea(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    d->escaped = RAW;
    d->data = p;
    d->len = len;
    return SP_OK;
}

/* The byte spelled at *at, which moves on; the spelling has been checked, and has not ended. */
static uint8_t next_byte(const sp_datum *d, const uint8_t **at)
{
    const uint8_t *p = *at;
    if (d->escaped == HEX) {
        while (sp_is_space(*p))
            p++;
        *at = p + 2;
        return (uint8_t)(sp_hex_digit(p[0]) << 4 | sp_hex_digit(p[1]));
    }
    if (d->escaped == RAW || *p != '\\') {
        *at = p + 1;
        return *p;
    }
    if (p[1] == '\\') {
        *at = p + 2;
        return '\\';
    }
    *at = p + 4;
    return (uint8_t)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
}

uint64_t sp_hash_bytea(const sp_datum *d)
{
    if (d->escaped == RAW)
        return sp_hash_data(d);
    sp_hash_stream stream;
    const uint8_t *at = d->data;
    sp_hash_stream_start(&stream, d->len, SP_HASH_SEED);
    for (size_t i = 0; i < d->len; i++)
        sp_hash_stream_byte(&stream, next_byte(d, &at));
    return sp_hash_stream_end(&stream);
}

size_t sp_canonical_bytea(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)out;
    const uint8_t *at = d->data;
    for (size_t i = 0; i < d->len && i < cap; i++)
        buf[i] = next_byte(d, &at);
    return d->len;
}

size_t sp_write_bytea(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    const uint8_t *at = d->data;
    sp_put_word(&w, "\\x");
    for (size_t i = 0; i < d->len; i++)
        sp_put_hex(&w, next_byte(d, &at));
    return w.len;
}

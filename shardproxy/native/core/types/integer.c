/* smallint, integer, bigint and oid. Follows src/backend/utils/adt/numutils.c, int.c, int8.c and oid.c. */
#include "read.h"

/* pg_strtoint64_safe and its shorter brothers: white space around, a sign, from 16 on 0x, 0o, 0b and `_`. */
static int32_t read_integer(const sp_settings *s, const uint8_t *p, size_t len, int64_t min, int64_t max, int64_t *out)
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

int32_t sp_read_int2(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    return read_integer(s, p, len, INT16_MIN, INT16_MAX, &d->integer);
}

int32_t sp_read_int4(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    return read_integer(s, p, len, INT32_MIN, INT32_MAX, &d->integer);
}

int32_t sp_read_int8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    return read_integer(s, p, len, INT64_MIN, INT64_MAX, &d->integer);
}

int32_t sp_receive_int2(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 2)
        return SP_INVALID;
    d->integer = sp_signed16(sp_load_be16(p));
    return SP_OK;
}

int32_t sp_receive_int4(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 4)
        return SP_INVALID;
    d->integer = sp_signed32(sp_load_be32(p));
    return SP_OK;
}

int32_t sp_receive_int8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 8)
        return SP_INVALID;
    d->integer = sp_signed64(sp_load_be64(p));
    return SP_OK;
}

/*
 * oidin: decimal, from -2147483648 on, as int4 is converted. Since 16 a leading zero means octal and 0x hexadecimal,
 * before it did not.
 */
int32_t sp_read_oid(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    const uint8_t *whole = p;
    size_t whole_len = len;
    (void)typmod;
    sp_trim(&p, &len);
    const uint8_t *end = p + len;
    int negative = 0;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    if (end - p > 1 && *p == '0' && (sp_is_digit(p[1]) || sp_lower(p[1]) == 'x'))
        return SP_UNSUPPORTED;
    if (p == end)
        return sp_refuse(s, whole, whole_len);
    uint64_t value = 0;
    int digits = (int)(end - p > 19 ? 20 : end - p);
    for (; p < end; p++) {
        if (!sp_is_digit(*p))
            return sp_refuse(s, whole, whole_len);
        value = value * 10 + (unsigned)(*p - '0'); /* wraps around only where digits is 20 */
    }
    if (digits > 19) /* strtoul() may wrap around */
        return SP_UNSUPPORTED;
    if (value > (negative ? UINT64_C(0x80000000) : UINT32_MAX))
        return SP_INVALID;
    d->integer = (uint32_t)(negative ? 0 - value : value);
    return SP_OK;
}

int32_t sp_receive_oid(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 4)
        return SP_INVALID;
    d->integer = sp_load_be32(p);
    return SP_OK;
}

/* real and double precision. Follows src/backend/utils/adt/float.c, and hashfunc.c for the hash. */
#include "read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A longer spelling is refused: strtod() wants it copied. */
#define LONGEST 1100

/* Equal values get equal bits: one zero, one NaN. */
static int64_t bits_of(double value)
{
    uint64_t bits;
    if (value == 0)
        return 0;
    if (isnan(value))
        return INT64_C(0x7FF8000000000000); /* get_float8_nan() */
    memcpy(&bits, &value, sizeof bits);
    return sp_signed64(bits);
}

static double value_of(const sp_datum *d)
{
    double value;
    memcpy(&value, &d->integer, sizeof value);
    return value;
}

static size_t skip_digits(const uint8_t *p, size_t len, size_t at)
{
    while (at < len && sp_is_digit(p[at]))
        at++;
    return at;
}

/* [sign] digits [. digits] [e [sign] digits], with a digit before or after the point. */
static int is_decimal(const uint8_t *p, size_t len)
{
    size_t at = len != 0 && (*p == '+' || *p == '-'), start = at;
    at = skip_digits(p, len, at);
    size_t digits = at - start;
    if (at < len && p[at] == '.') {
        start = at + 1;
        at = skip_digits(p, len, start);
        digits += at - start;
    }
    if (digits == 0)
        return 0;
    if (at < len && (p[at] == 'e' || p[at] == 'E')) {
        at++;
        at += at < len && (p[at] == '+' || p[at] == '-');
        start = at;
        at = skip_digits(p, len, start);
        if (at == start)
            return 0;
    }
    return at == len;
}

/* What the C library of the server may read besides: 0x1p3, nan(1), -nan. */
static int is_librarys(const uint8_t *p, size_t len)
{
    if (len != 0 && (*p == '+' || *p == '-'))
        p++, len--;
    return (len >= 2 && *p == '0' && sp_lower(p[1]) == 'x') || (len >= 3 && sp_is_word(p, 3, "nan"));
}

/* float4in_internal and float8in_internal: the nearest value; too large, or too small for any but zero, is an error. */
static int32_t read_float(const sp_settings *s, int single, const uint8_t *p, size_t len, sp_datum *d)
{
    const uint8_t *whole = p;
    size_t whole_len = len;
    sp_trim(&p, &len);
    if (sp_is_word(p, len, "nan")) {
        d->integer = bits_of(NAN);
        return SP_OK;
    }
    if (len != 0) {
        size_t sign = *p == '+' || *p == '-';
        if (sp_is_word(p + sign, len - sign, "infinity") || sp_is_word(p + sign, len - sign, "inf")) {
            d->integer = bits_of(*p == '-' ? -INFINITY : INFINITY);
            return SP_OK;
        }
    }
    if (!is_decimal(p, len))
        return is_librarys(p, len) ? SP_UNSUPPORTED : sp_refuse(s, whole, whole_len);
    if (len > LONGEST)
        return SP_UNSUPPORTED;
    char copy[LONGEST + 1], *end;
    memcpy(copy, p, len);
    copy[len] = 0;
    errno = 0;
    double value = single ? (double)strtof(copy, &end) : strtod(copy, &end);
    if (end != copy + len) /* the process has a locale with another decimal point */
        return SP_UNSUPPORTED;
    if (errno == ERANGE && (value == 0 || isinf(value)))
        return SP_INVALID;
    d->integer = bits_of(value);
    return SP_OK;
}

int32_t sp_read_float4(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    return read_float(s, 1, p, len, d);
}

int32_t sp_read_float8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    return read_float(s, 0, p, len, d);
}

int32_t sp_receive_float4(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 4)
        return SP_INVALID;
    uint32_t bits = sp_load_be32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    d->integer = bits_of((double)value);
    return SP_OK;
}

int32_t sp_receive_float8(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 8)
        return SP_INVALID;
    uint64_t bits = sp_load_be64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    d->integer = bits_of(value);
    return SP_OK;
}

/* hashfloat4extended and hashfloat8extended: of the value as float8, little-endian; of zero, the seed. */
uint64_t sp_hash_float(const sp_datum *d)
{
    uint8_t bytes[8];
    uint64_t bits = (uint64_t)d->integer;
    if (bits == 0)
        return SP_HASH_SEED;
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(bits >> (8 * i));
    return sp_hash_bytes(bytes, 8, SP_HASH_SEED);
}

/* Big-endian, the sign flipped and negative values inverted; NaN is above all, as in float8_cmp_internal. */
size_t sp_canonical_float(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)cap, (void)out;
    uint64_t bits = (uint64_t)d->integer;
    sp_store_be64(buf, d->integer < 0 ? ~bits : bits | UINT64_C(1) << 63);
    return 8;
}

/* The fewest digits that read as the same value, in the notation of float4out and float8out. */
static size_t write_float(const sp_datum *d, int single, uint8_t *buf, size_t cap)
{
    double value = value_of(d);
    sp_writer w = {buf, cap, 0};
    if (isnan(value)) {
        sp_put_word(&w, "NaN");
        return w.len;
    }
    if (isinf(value)) {
        sp_put_word(&w, value < 0 ? "-Infinity" : "Infinity");
        return w.len;
    }
    char text[40];
    const int most = single ? 9 : 17, exact = single ? 6 : 15; /* FLT_DIG, DBL_DIG */
    int digits = 0;
    do {
        snprintf(text, sizeof text, "%.*e", digits++, value);
    } while (digits < most && (single ? (double)strtof(text, NULL) : strtod(text, NULL)) != value);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < exact)
        snprintf(text, sizeof text, "%.*f", digits - 1 > exponent ? digits - 1 - exponent : 0, value);
    for (char *c = text; *c != 0; c++)
        sp_put(&w, *c == ',' ? '.' : (uint8_t)*c);
    return w.len;
}

size_t sp_write_float4(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_float(d, 1, buf, cap);
}

size_t sp_write_float8(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_float(d, 0, buf, cap);
}

/*
 * numeric: text and binary spellings, rounding to the declared precision, hash and canonical form. Follows
 * src/backend/utils/adt/numeric.c (numeric_in, set_var_from_str, numeric_recv, apply_typmod, make_result,
 * hash_numeric_extended). Digits are base 10000, as there.
 */
#include "read.h"

/* NUMERIC_WEIGHT_MAX and NUMERIC_DSCALE_MAX. */
#define MAX_DECIMAL_WEIGHT (4 * 32768 - 1)
#define MAX_DSCALE 16383
/* Hexadecimal, octal and binary integers up to 256 bits; longer ones are refused as unknown. */
#define MAX_LIMBS 8

static const uint16_t powers[] = {1, 10, 100, 1000};

static int64_t mod4(int64_t x)
{
    return ((x % 4) + 4) % 4;
}

static int64_t floor4(int64_t x)
{
    return (x - mod4(x)) / 4;
}

typedef struct {
    int limited; /* there is a typmod */
    int32_t precision, scale;
} limits;

static limits limits_of(int32_t typmod)
{
    limits l = {typmod >= 4, 0, 0};
    if (l.limited) {
        l.precision = ((typmod - 4) >> 16) & 0xFFFF;
        l.scale = (int32_t)((((uint32_t)typmod - 4) & 0x7FF) ^ 1024) - 1024;
    }
    return l;
}

static void strip(sp_numeric *n)
{
    uint32_t first = 0;
    while (n->ndigits != 0 && n->digits[n->ndigits - 1] == 0)
        n->ndigits--;
    while (first < n->ndigits && n->digits[first] == 0)
        first++;
    n->ndigits -= first;
    n->weight -= (int32_t)first;
    memmove(n->digits, n->digits + first, n->ndigits * sizeof n->digits[0]);
    if (n->ndigits == 0)
        n->kind = SP_NUM_ZERO;
}

/* Drops the decimal positions below `lowest`; digits[0] is a zero that takes the last carry. */
static void cut_at(sp_numeric *n, int64_t lowest, int round)
{
    int64_t at = n->weight - floor4(lowest); /* the group that holds `lowest` */
    uint32_t power = powers[mod4(lowest)];
    if (at >= (int64_t)n->ndigits)
        return;
    if (at < 0) { /* `lowest` is above even the carry: no digit reaches half of it */
        n->ndigits = 0;
        return;
    }
    uint32_t dropped, half;
    if (power == 1) {
        dropped = at + 1 < (int64_t)n->ndigits ? n->digits[at + 1] : 0;
        half = 5000;
    } else {
        dropped = n->digits[at] % power;
        half = power / 2;
        n->digits[at] = (uint16_t)(n->digits[at] - dropped);
    }
    n->ndigits = (uint32_t)at + 1;
    if (!round || dropped < half)
        return;
    n->digits[at] = (uint16_t)(n->digits[at] + power);
    for (; n->digits[at] >= 10000; at--) {
        n->digits[at] = (uint16_t)(n->digits[at] - 10000);
        n->digits[at - 1]++;
    }
}

/* The decimals that numeric_out shows, of a value written with so many. */
static int32_t shown(const limits *l, int64_t dscale)
{
    int64_t scale = l->limited ? l->scale : dscale;
    return scale < 0 ? 0 : scale > MAX_DSCALE ? MAX_DSCALE : (int32_t)scale;
}

/* apply_typmod: round, then no more integer digits than precision minus scale. */
static int32_t fit(sp_numeric *n, const limits *l)
{
    if (l->limited)
        cut_at(n, -(int64_t)l->scale, 1);
    strip(n);
    if (!l->limited || n->ndigits == 0)
        return SP_OK;
    int32_t top = n->digits[0];
    int32_t decimals = n->weight * 4 + (top >= 1000 ? 4 : top >= 100 ? 3 : top >= 10 ? 2 : 1);
    return decimals > l->precision - l->scale ? SP_INVALID : SP_OK;
}

/*
 * The digits in [p, end), other characters skipped; the first stands at decimal position `position`. dscale is
 * the number of decimals written.
 */
static int32_t from_decimal(const uint8_t *p, const uint8_t *end, int64_t position, int64_t dscale, int negative,
                            int32_t typmod, sp_numeric *out)
{
    limits l = limits_of(typmod);
    out->kind = negative ? SP_NUM_NEG : SP_NUM_POS;
    out->ndigits = 0;
    out->weight = 0;
    out->scale = shown(&l, dscale);
    if (!l.limited && dscale > MAX_DSCALE)
        return SP_INVALID;
    for (; p < end && (*p == '0' || !sp_is_digit(*p)); p++)
        position -= *p == '0';
    if (p == end) {
        out->kind = SP_NUM_ZERO;
        return SP_OK;
    }
    if (position > MAX_DECIMAL_WEIGHT)
        return SP_INVALID;
    /* Only the first dropped digit rounds. */
    int64_t last = l.limited ? -(int64_t)l.scale - 4 : -MAX_DSCALE;
    if (position < last) {
        out->kind = SP_NUM_ZERO;
        return SP_OK;
    }
    int64_t group = floor4(position);
    uint32_t at = 1;
    out->weight = (int32_t)group + 1;
    out->digits[0] = 0;
    out->digits[1] = 0;
    for (; p < end && position >= last; p++) {
        if (!sp_is_digit(*p))
            continue;
        if (floor4(position) != group) {
            group--;
            out->digits[++at] = 0;
        }
        out->digits[at] = (uint16_t)(out->digits[at] + (*p - '0') * powers[mod4(position)]);
        position--;
    }
    out->ndigits = at + 1;
    return fit(out, &l);
}

static int base_of(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2 || p[0] != '0')
        return 10;
    uint8_t mark = sp_lower(p[1]);
    return mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
}

/* set_var_from_non_decimal_integer_str, by way of the decimal spelling. */
static int32_t read_other_base(const uint8_t *p, const uint8_t *end, unsigned base, int negative, int32_t typmod,
                               sp_numeric *out)
{
    uint32_t limbs[MAX_LIMBS] = {0};
    int too_long = 0;
    if (p == end)
        return SP_INVALID;
    for (; p < end; p++) {
        if (*p == '_' && ++p == end)
            return SP_INVALID;
        int digit = sp_hex_digit(*p);
        if (digit < 0 || (unsigned)digit >= base)
            return SP_INVALID;
        uint64_t carry = (unsigned)digit;
        for (int i = 0; i < MAX_LIMBS; i++) {
            carry += (uint64_t)limbs[i] * base;
            limbs[i] = (uint32_t)carry;
            carry >>= 32;
        }
        too_long |= carry != 0;
    }
    if (too_long)
        return SP_UNSUPPORTED;
    uint8_t decimal[80];
    size_t at = sizeof decimal;
    for (int any = 1; any;) { /* 256 bits have 78 digits */
        uint64_t rest = 0;
        any = 0;
        for (int i = MAX_LIMBS - 1; i >= 0; i--) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 10);
            any |= limbs[i] != 0;
            rest %= 10;
        }
        decimal[--at] = (uint8_t)('0' + rest);
    }
    return from_decimal(decimal + at, decimal + sizeof decimal, (int64_t)(sizeof decimal - at) - 1, 0, negative,
                        typmod, out);
}

static int32_t special(sp_numeric *out, sp_num_kind kind, const sp_settings *s, int32_t typmod)
{
    out->kind = kind;
    out->ndigits = 0;
    out->weight = 0;
    out->scale = 0;
    if (kind == SP_NUM_NAN)
        return SP_OK;
    return s->server_version >= 14 && typmod < 4 ? SP_OK : SP_INVALID;
}

int32_t sp_read_numeric(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_numeric *out = d->numeric;
    const uint8_t *whole = p;
    size_t whole_len = len;
    int modern = s->server_version >= 16;
    sp_trim(&p, &len);
    const uint8_t *end = p + len;
    if (sp_is_word(p, len, "nan"))
        return special(out, SP_NUM_NAN, s, typmod);
    int negative = 0;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    size_t rest = (size_t)(end - p);
    if (sp_is_word(p, rest, "infinity") || sp_is_word(p, rest, "inf"))
        return special(out, negative ? SP_NUM_NINF : SP_NUM_INF, s, typmod);

    int base = modern ? base_of(p, end) : 10;
    if (base != 10) {
        int32_t status = read_other_base(p + 2, end, (unsigned)base, negative, typmod, out);
        return status == SP_INVALID ? sp_refuse(s, whole, whole_len) : status;
    }

    const uint8_t *digits = p;
    int64_t integers = 0, decimals = 0, exponent = 0;
    int point = 0;
    if (p < end && *p == '.')
        point = 1, p++;
    if (p == end || !sp_is_digit(*p))
        return sp_refuse(s, whole, whole_len);
    for (; p < end; p++) {
        if (sp_is_digit(*p)) {
            *(point ? &decimals : &integers) += 1;
        } else if (*p == '.' && !point) {
            point = 1;
            if (modern && end - p >= 2 && p[1] == '_')
                return SP_INVALID;
        } else if (*p == '_' && modern) {
            if (end - p < 2 || !sp_is_digit(p[1]))
                return sp_refuse(s, whole, whole_len);
        } else {
            break;
        }
    }
    const uint8_t *digits_end = p;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (!modern && p < end && sp_is_space(*p))
            return SP_UNSUPPORTED; /* strtol skipped it */
        int minus = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        if (p == end || !sp_is_digit(*p))
            return sp_refuse(s, whole, whole_len);
        for (; p < end; p++) {
            if (*p == '_' && modern) {
                if (end - p < 2 || !sp_is_digit(p[1]))
                    return sp_refuse(s, whole, whole_len);
                continue;
            }
            if (!sp_is_digit(*p))
                break;
            exponent = exponent * 10 + (*p - '0');
            if (exponent > INT32_MAX / 2)
                return SP_INVALID;
        }
        if (exponent == INT32_MAX / 2) /* up to 15 already too large */
            return SP_UNSUPPORTED;
        exponent = minus ? -exponent : exponent;
    }
    if (p != end)
        return sp_refuse(s, whole, whole_len);
    return from_decimal(digits, digits_end, integers + exponent - 1, decimals - exponent, negative, typmod, out);
}

int32_t sp_receive_numeric(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_numeric *out = d->numeric;
    if (len < 8)
        return SP_INVALID;
    uint32_t ndigits = sp_load_be16(p), sign = sp_load_be16(p + 4), dscale = sp_load_be16(p + 6);
    int32_t weight = sp_signed32(sp_load_be16(p + 2) << 16) >> 16;
    if (len != 8 + 2 * (size_t)ndigits || dscale > MAX_DSCALE)
        return SP_INVALID;
    p += 8;
    for (uint32_t i = 0; i < ndigits; i++)
        if (sp_load_be16(p + 2 * i) > 9999)
            return SP_INVALID;
    switch (sign) {
    case 0x0000:
        out->kind = SP_NUM_POS;
        break;
    case 0x4000:
        out->kind = SP_NUM_NEG;
        break;
    case 0xC000:
        return special(out, SP_NUM_NAN, s, typmod);
    case 0xD000:
        return special(out, SP_NUM_INF, s, typmod);
    case 0xF000:
        return special(out, SP_NUM_NINF, s, typmod);
    default:
        return SP_INVALID;
    }
    limits l = limits_of(typmod);
    /* Groups wholly below the scale are cut off anyway; this also bounds them by the array. */
    int64_t keep = (int64_t)weight - floor4(-(int64_t)dscale) + 1;
    uint32_t n = keep <= 0 ? 0 : keep < (int64_t)ndigits ? (uint32_t)keep : ndigits;
    out->digits[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        out->digits[1 + i] = (uint16_t)sp_load_be16(p + 2 * i);
    out->ndigits = n + 1;
    out->weight = weight + 1;
    out->scale = shown(&l, dscale);
    cut_at(out, -(int64_t)dscale, 0); /* trunc_var */
    return fit(out, &l);
}

uint64_t sp_hash_numeric(const sp_datum *d)
{
    const sp_numeric *n = d->numeric;
    const uint64_t seed = SP_HASH_SEED;
    if (n->kind == SP_NUM_ZERO)
        return seed - 1;
    if (n->ndigits == 0) /* NaN and the infinities */
        return seed;
    uint64_t hash;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    hash = sp_hash_bytes((const uint8_t *)n->digits, 2 * (size_t)n->ndigits, seed);
#else
    sp_hash_stream stream;
    sp_hash_stream_start(&stream, 2 * (size_t)n->ndigits, seed);
    for (uint32_t i = 0; i < n->ndigits; i++) {
        sp_hash_stream_byte(&stream, (uint8_t)n->digits[i]);
        sp_hash_stream_byte(&stream, (uint8_t)(n->digits[i] >> 8));
    }
    hash = sp_hash_stream_end(&stream);
#endif
    return hash ^ (uint64_t)(int64_t)n->weight;
}

/*
 * The kind, then for finite values the weight and each digit plus one, and a zero to end: a shorter number is
 * less than its continuation. Negative values have all bits behind the kind inverted.
 */
size_t sp_canonical_numeric(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    const sp_numeric *n = d->numeric;
    (void)out;
    sp_writer w = {buf, cap, 0};
    sp_put(&w, (uint8_t)n->kind);
    if (n->kind != SP_NUM_POS && n->kind != SP_NUM_NEG)
        return w.len;
    uint32_t flip = n->kind == SP_NUM_NEG ? 0xFF : 0;
    uint32_t weight = (uint32_t)n->weight ^ 0x80000000u;
    for (int shift = 24; shift >= 0; shift -= 8)
        sp_put(&w, (uint8_t)((weight >> shift) ^ flip));
    for (uint32_t i = 0; i <= n->ndigits; i++) {
        uint32_t digit = i < n->ndigits ? n->digits[i] + 1u : 0;
        sp_put(&w, (uint8_t)((digit >> 8) ^ flip));
        sp_put(&w, (uint8_t)(digit ^ flip));
    }
    return w.len;
}

/* Digit `at` in groups of 10000 from the highest weight on; beyond those that are kept there are zeros. */
static uint32_t group_of(const sp_numeric *n, int64_t weight)
{
    int64_t at = n->weight - weight;
    return at >= 0 && at < (int64_t)n->ndigits ? n->digits[at] : 0;
}

/* get_str_from_var */
size_t sp_write_numeric(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    static const char *const words[] = {"-Infinity", "", "", "", "Infinity", "NaN"};
    const sp_numeric *n = d->numeric;
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    if (n->kind == SP_NUM_NAN || n->kind == SP_NUM_INF || n->kind == SP_NUM_NINF) {
        sp_put_word(&w, words[n->kind]);
        return w.len;
    }
    int64_t first = n->ndigits != 0 && n->weight > 0 ? n->weight : 0;
    if (n->kind == SP_NUM_NEG)
        sp_put(&w, '-');
    for (int64_t weight = first; weight >= 0; weight--)
        sp_put_integer(&w, group_of(n, weight), weight == first ? 1 : 4);
    if (n->scale != 0)
        sp_put(&w, '.');
    for (int32_t i = 0; i < n->scale; i++)
        sp_put(&w, (uint8_t)('0' + group_of(n, -1 - i / 4) / powers[3 - i % 4] % 10));
    return w.len;
}

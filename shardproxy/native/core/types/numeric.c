/*
 * numeric: the value, rounded to the declared precision, from decimal digits or the binary format; hash and canonical
 * form. Follows src/backend/utils/adt/numeric.c (set_var_from_str, numeric_recv, apply_typmod, make_result,
 * hash_numeric_extended). Digits are base 10000, as there.
 */
#include "numeric.h"

/* NUMERIC_WEIGHT_MAX and NUMERIC_DSCALE_MAX. */
#define MAX_DECIMAL_WEIGHT (4 * 32768 - 1)
#define MAX_DSCALE 16383

const uint16_t sp_powers_of_ten[4] = {1, 10, 100, 1000};

static int64_t mod4(int64_t x)
{
    return ((x % 4) + 4) % 4;
}

static int64_t floor4(int64_t x)
{
    return (x - mod4(x)) / 4;
}

typedef struct {
    int declared; /* numeric(precision, scale), not just numeric */
    int32_t precision, scale;
} limits;

static limits limits_of(int32_t typmod)
{
    limits l = {typmod >= 4, 0, 0};
    if (l.declared) {
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
    uint32_t power = sp_powers_of_ten[mod4(lowest)];
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
    int64_t scale = l->declared ? l->scale : dscale;
    return scale < 0 ? 0 : scale > MAX_DSCALE ? MAX_DSCALE : (int32_t)scale;
}

/* apply_typmod: round, then no more integer digits than precision minus scale. */
static int32_t fit(sp_numeric *n, const limits *l)
{
    if (l->declared)
        cut_at(n, -(int64_t)l->scale, 1);
    strip(n);
    if (!l->declared || n->ndigits == 0)
        return SP_OK;
    int32_t top = n->digits[0];
    int32_t decimals = n->weight * 4 + (top >= 1000 ? 4 : top >= 100 ? 3 : top >= 10 ? 2 : 1);
    return decimals > l->precision - l->scale ? SP_INVALID : SP_OK;
}

int32_t sp_numeric_of_digits(const uint8_t *p, const uint8_t *end, int64_t position, int64_t dscale, int negative,
                             int32_t typmod, sp_numeric *out)
{
    limits l = limits_of(typmod);
    out->kind = negative ? SP_NUM_NEG : SP_NUM_POS;
    out->ndigits = 0;
    out->weight = 0;
    out->scale = shown(&l, dscale);
    if (!l.declared && dscale > MAX_DSCALE)
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
    int64_t last = l.declared ? -(int64_t)l.scale - 4 : -MAX_DSCALE;
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
        out->digits[at] = (uint16_t)(out->digits[at] + (*p - '0') * sp_powers_of_ten[mod4(position)]);
        position--;
    }
    out->ndigits = at + 1;
    return fit(out, &l);
}

int32_t sp_numeric_special(sp_numeric *out, sp_num_kind kind, const sp_settings *s, int32_t typmod)
{
    out->kind = kind;
    out->ndigits = 0;
    out->weight = 0;
    out->scale = 0;
    if (kind == SP_NUM_NAN)
        return SP_OK;
    return s->server_version >= 14 && typmod < 4 ? SP_OK : SP_INVALID;
}

int32_t sp_receive_numeric(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_numeric *out = d->numeric;
    if (len < 8)
        return SP_INVALID;
    uint32_t ndigits = sp_load_be16(p), sign = sp_load_be16(p + 4), dscale = sp_load_be16(p + 6);
    int32_t weight = sp_signed16(sp_load_be16(p + 2));
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
        return sp_numeric_special(out, SP_NUM_NAN, s, typmod);
    case 0xD000:
        return sp_numeric_special(out, SP_NUM_INF, s, typmod);
    case 0xF000:
        return sp_numeric_special(out, SP_NUM_NINF, s, typmod);
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
 * less than its continuation. Negative values have all bits after the kind inverted.
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

#include "place.h"

#include "hash.h"
#include "keys.h"

#include <stdlib.h>

sp_placement *sp_build_failed(sp_build_error *error, int32_t code, size_t index, size_t other, size_t column)
{
    error->code = code;
    error->index = index;
    error->other = other;
    error->column = column;
    return NULL;
}

sp_base *sp_base_new(size_t size, uint32_t nshards, uint32_t nkeys)
{
    sp_base *base = calloc(1, size);
    if (base != NULL) {
        base->pub.nshards = nshards;
        base->pub.nkeys = nkeys;
        base->references = 1;
    }
    return base;
}

sp_placement *sp_placement_retain(sp_placement *p)
{
    __atomic_fetch_add(&((sp_base *)p)->references, 1, __ATOMIC_RELAXED);
    return p;
}

void sp_placement_release(sp_placement *p)
{
    sp_base *base = (sp_base *)p;
    if (base == NULL || __atomic_sub_fetch(&base->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (base->destroy != NULL)
        base->destroy(base);
    free(base);
}

/* ---- reference and single: no key is read ---- */

typedef struct {
    sp_base base;
    int32_t answer;
} constant_placement;

static int32_t place_constant(const sp_placement *self, const sp_value *values, int binary)
{
    (void)values, (void)binary;
    return ((const constant_placement *)(const void *)self)->answer;
}

static sp_placement *constant_new(uint32_t nshards, int32_t answer, sp_build_error *error)
{
    error->code = SP_BUILD_OK;
    if (nshards == 0 || nshards > INT32_MAX || answer >= (int64_t)nshards)
        return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, 0);
    constant_placement *c = (constant_placement *)sp_base_new(sizeof *c, nshards, 0);
    if (c == NULL)
        return sp_build_failed(error, SP_BUILD_MEMORY, 0, 0, 0);
    c->base.pub.place = place_constant;
    c->answer = answer;
    return &c->base.pub;
}

sp_placement *sp_placement_reference(uint32_t nshards, sp_build_error *error)
{
    return constant_new(nshards, SP_EVERYWHERE, error);
}

sp_placement *sp_placement_single(uint32_t nshards, uint32_t shard, sp_build_error *error)
{
    if (shard > INT32_MAX)
        return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, 0);
    return constant_new(nshards, (int32_t)shard, error);
}

/* ---- hash ---- */

typedef struct {
    sp_base base;
    uint64_t reciprocal; /* floor(2^64 / nshards), for a remainder without division */
    sp_keytype types[];
} hash_placement;

static inline const hash_placement *as_hash(const sp_placement *self)
{
    return (const hash_placement *)(const void *)self;
}

/*
 * hash % nshards. The product's upper half is the quotient or one less: (2^64 / n - reciprocal) < 1, so the
 * estimate lacks less than hash / 2^64 + 1.
 */
static inline int32_t remainder_of(const hash_placement *h, uint64_t hash)
{
    uint64_t n = h->base.pub.nshards;
#ifdef __SIZEOF_INT128__
    uint64_t quotient = (uint64_t)(((unsigned __int128)hash * h->reciprocal) >> 64);
    uint64_t rest = hash - quotient * n;
    return (int32_t)(rest >= n ? rest - n : rest);
#else
    return (int32_t)(hash % n);
#endif
}

/* compute_partition_hash_value: NULL adds nothing. A refused column decides over one that is merely unknown. */
static int32_t place_hash(const sp_placement *self, const sp_value *values, int binary)
{
    const hash_placement *h = as_hash(self);
    uint64_t row = 0;
    int32_t unsupported = SP_OK;
    for (uint32_t i = 0; i < self->nkeys; i++) {
        uint64_t hash;
        if (values[i].is_null)
            continue;
        int32_t status = sp_key_hash(h->types[i], &h->base.settings, &values[i], binary, &hash);
        if (status == SP_INVALID)
            return SP_INVALID;
        if (status != SP_OK)
            unsupported = status;
        else
            row = sp_hash_combine(row, hash);
    }
    return unsupported != SP_OK ? unsupported : remainder_of(h, row);
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SP_SWAR 1

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Eight characters, the first in the lowest byte: are all of them digits? */
static inline int eight_digits(uint64_t v)
{
    return ((v & UINT64_C(0xF0F0F0F0F0F0F0F0)) |
            (((v + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) >> 4)) ==
           UINT64_C(0x3333333333333333);
}

static inline uint64_t parse_eight(uint64_t v)
{
    v -= UINT64_C(0x3030303030303030);
    v = v * 10 + (v >> 8); /* pairs in every other byte */
    return (((v & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064)) +
            (((v >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001))) >>
           32;
}

/* 1 to 8 characters moved to the upper bytes behind leading '0's, without reading beyond them. */
static inline uint64_t load_padded(const uint8_t *p, size_t len)
{
    uint64_t v;
    if (len == 8)
        return load64(p);
    if (len >= 4)
        v = load32(p) | load32(p + len - 4) << (8 * (len - 4));
    else
        v = (uint64_t)p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) | (uint64_t)p[len - 1] << (8 * (len - 1));
    return v << (64 - 8 * len) | UINT64_C(0x3030303030303030) >> (8 * len);
}

/* Plain digits with an optional minus, up to 19 of them: what nearly every integer key is. */
static inline int read_plain(const uint8_t *p, size_t len, int64_t *out)
{
    int negative = len != 0 && *p == '-';
    p += negative;
    len -= (size_t)negative;
    if (len - 1 >= 19) /* 0 wraps around */
        return 0;
    uint64_t value;
    if (len <= 8) {
        uint64_t v = load_padded(p, len);
        if (!eight_digits(v))
            return 0;
        value = parse_eight(v);
    } else {
        uint64_t low = load64(p + len - 8), middle, high = 0;
        if (len <= 16) {
            middle = load_padded(p, len - 8);
        } else {
            uint64_t v = load_padded(p, len - 16);
            if (!eight_digits(v))
                return 0;
            high = parse_eight(v);
            middle = load64(p + len - 16);
        }
        if (!(eight_digits(middle) & eight_digits(low)))
            return 0;
        value = (high * 100000000u + parse_eight(middle)) * 100000000u + parse_eight(low);
        if (value > INT64_MAX)
            return 0;
    }
    *out = negative ? -(int64_t)value : (int64_t)value;
    return 1;
}
#endif

/* One bigint or integer key in its usual spelling; everything else goes the general way. */
static int32_t place_hash_int8(const sp_placement *self, const sp_value *values, int binary)
{
#ifdef SP_SWAR
    int64_t value;
    if (!binary && !values->is_null && read_plain(values->data, values->len, &value)) {
        uint64_t hash = sp_hash_int64(value, SP_HASH_SEED);
        return remainder_of(as_hash(self), sp_hash_combine(0, hash));
    }
#endif
    return place_hash(self, values, binary);
}

static int32_t place_hash_int4(const sp_placement *self, const sp_value *values, int binary)
{
#ifdef SP_SWAR
    int64_t value;
    if (!binary && !values->is_null && read_plain(values->data, values->len, &value) && value >= INT32_MIN &&
        value <= INT32_MAX) {
        uint64_t hash = sp_hash_uint32((uint32_t)value, SP_HASH_SEED);
        return remainder_of(as_hash(self), sp_hash_combine(0, hash));
    }
#endif
    return place_hash(self, values, binary);
}

sp_placement *sp_placement_hash(uint32_t nshards, const sp_keytype *types, size_t nkeys,
                                const sp_settings *settings, sp_build_error *error)
{
    error->code = SP_BUILD_OK;
    if (nshards == 0 || nshards > INT32_MAX || nkeys == 0 || nkeys > SP_MAX_KEYS)
        return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, 0);
    for (size_t i = 0; i < nkeys; i++)
        if (!sp_keytype_ok(types[i]))
            return sp_build_failed(error, SP_BUILD_ARGUMENT, i, 0, i);
    hash_placement *h =
        (hash_placement *)sp_base_new(sizeof *h + nkeys * sizeof *types, nshards, (uint32_t)nkeys);
    if (h == NULL)
        return sp_build_failed(error, SP_BUILD_MEMORY, 0, 0, 0);
    h->base.settings = *settings;
    memcpy(h->types, types, nkeys * sizeof *types);
    /* For one shard 2^64 does not fit; the estimate is then one too small, which the correction covers. */
    h->reciprocal = nshards == 1 ? UINT64_MAX : (UINT64_MAX - nshards + 1) / nshards + 1;
    h->base.pub.place = place_hash;
    if (nkeys == 1 && types[0].code == SP_KEY_INT8)
        h->base.pub.place = place_hash_int8;
    if (nkeys == 1 && types[0].code == SP_KEY_INT4)
        h->base.pub.place = place_hash_int4;
    return &h->base.pub;
}

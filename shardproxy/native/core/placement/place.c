#include "place.h"

#include "simd/digits.h"
#include "types/hash.h"
#include "types/types.h"

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

/* One integer key in its usual spelling; everything else goes the general way. */
static int32_t place_hash_integer(const sp_placement *self, const sp_value *values, int binary)
{
#ifdef SP_SWAR
    const unsigned spare = 64 - self->integer_bits;
    int64_t value;
    if (!binary && !values->is_null && sp_read_digits(values->data, values->len, &value) &&
        (int64_t)((uint64_t)value << spare) >> spare == value) {
        uint64_t hash = sp_hash_int64(value, SP_HASH_SEED);
        return remainder_of(as_hash(self), sp_hash_combine(0, hash));
    }
#endif
    return place_hash(self, values, binary);
}

void sp_place_hashes(const sp_placement *self, const uint64_t *hashes, size_t n, int32_t *shards)
{
    const hash_placement h = *as_hash(self); /* a copy, which the stores cannot change */
    for (size_t i = 0; i < n; i++)
        shards[i] = remainder_of(&h, sp_hash_combine(0, hashes[i]));
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
    h->base.pub.integer_bits = nkeys == 1 ? sp_types[types[0].code].integer_bits : 0;
    h->base.pub.place = h->base.pub.integer_bits != 0 ? place_hash_integer : place_hash;
    return &h->base.pub;
}

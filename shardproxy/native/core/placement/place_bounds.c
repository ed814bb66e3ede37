/*
 * Placement by list and by range, with the rules of PostgreSQL's partition bounds
 * (src/backend/partitioning/partbounds.c): lower bounds are inclusive, upper ones exclusive, a NULL key is in no
 * range, and overlaps are refused when the placement is built.
 */
#include "place.h"
#include "types/types.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t kind;
    size_t len;
    uint8_t *data;
} bound;

static int compare_bytes(const uint8_t *a, size_t alen, const uint8_t *b, size_t blen)
{
    size_t n = alen < blen ? alen : blen;
    int order = n != 0 ? memcmp(a, b, n) : 0;
    return order != 0 ? order : (alen > blen) - (alen < blen);
}

/* The canonical form of a given value, copied; an SP_BUILD_ code. */
static int32_t copy_canonical(sp_keytype type, const sp_settings *s, const sp_value *v, bound *out)
{
    uint8_t buf[SP_MAX_BOUND];
    const uint8_t *bytes;
    size_t len;
    int32_t status = sp_key_canonical(type, s, v, 0, buf, sizeof buf, &bytes, &len);
    if (status != SP_OK)
        return status == SP_INVALID ? SP_BUILD_SPELLING : SP_BUILD_UNCERTAIN;
    if (bytes == buf && len > sizeof buf)
        return SP_BUILD_TOO_LONG;
    out->data = malloc(len != 0 ? len : 1);
    if (out->data == NULL)
        return SP_BUILD_MEMORY;
    if (len != 0)
        memcpy(out->data, bytes, len);
    out->len = len;
    return SP_BUILD_OK;
}

static int shard_ok(uint32_t nshards, int32_t shard)
{
    return shard >= 0 && (uint32_t)shard < nshards;
}

static int common_ok(uint32_t nshards, int32_t default_shard)
{
    return nshards != 0 && nshards <= INT32_MAX &&
           (default_shard == SP_NO_DEFAULT || shard_ok(nshards, default_shard));
}

static int32_t or_none(int32_t shard)
{
    return shard == SP_NO_DEFAULT ? SP_NO_PARTITION : shard;
}

/* ---- list ---- */

typedef struct {
    bound value;
    int32_t shard;
    size_t index;
} list_entry;

typedef struct {
    sp_base base;
    sp_keytype type;
    int32_t null_answer, default_answer;
    size_t count;
    list_entry *entries; /* sorted by value */
} list_placement;

static void destroy_list(sp_base *self)
{
    list_placement *l = (list_placement *)(void *)self;
    for (size_t i = 0; i < l->count; i++)
        free(l->entries[i].value.data);
    free(l->entries);
}

static int compare_entries(const void *a, const void *b)
{
    const list_entry *x = a, *y = b;
    int order = compare_bytes(x->value.data, x->value.len, y->value.data, y->value.len);
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static int32_t place_list(const sp_placement *self, const sp_value *values, int binary)
{
    const list_placement *l = (const list_placement *)(const void *)self;
    uint8_t buf[SP_MAX_BOUND];
    const uint8_t *bytes;
    size_t len;
    if (values->is_null)
        return l->null_answer;
    int32_t status =
        sp_key_canonical(l->type, &l->base.settings, values, binary, buf, sizeof buf, &bytes, &len);
    if (status != SP_OK)
        return status;
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const list_entry *e = &l->entries[middle];
        int order = compare_bytes(bytes, len, e->value.data, e->value.len);
        if (order == 0)
            return e->shard;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return l->default_answer;
}

sp_placement *sp_placement_list(uint32_t nshards, sp_keytype type, const sp_value *values, const int32_t *shards,
                                size_t nvalues, int32_t default_shard, const sp_settings *settings,
                                sp_build_error *error)
{
    error->code = SP_BUILD_OK;
    if (!common_ok(nshards, default_shard) || !sp_keytype_ok(type))
        return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, 0);
    list_placement *l = (list_placement *)(void *)sp_base_new(sizeof *l, nshards, 1);
    if (l == NULL)
        return sp_build_failed(error, SP_BUILD_MEMORY, 0, 0, 0);
    l->base.destroy = destroy_list;
    l->base.settings = *settings;
    l->base.pub.place = place_list;
    l->type = type;
    l->default_answer = or_none(default_shard);
    l->null_answer = l->default_answer;
    l->entries = calloc(nvalues + 1, sizeof *l->entries);
    int32_t code = l->entries == NULL ? SP_BUILD_MEMORY : SP_BUILD_OK;
    size_t at = 0, other = 0, null_index = SIZE_MAX;
    for (size_t i = 0; i < nvalues && code == SP_BUILD_OK; i++) {
        at = i;
        if (!shard_ok(nshards, shards[i])) {
            code = SP_BUILD_ARGUMENT;
        } else if (values[i].is_null) {
            if (null_index != SIZE_MAX && l->null_answer != shards[i]) {
                code = SP_BUILD_DUPLICATE;
                other = null_index;
            }
            null_index = i;
            l->null_answer = shards[i];
        } else {
            list_entry *e = &l->entries[l->count];
            code = copy_canonical(type, settings, &values[i], &e->value);
            e->shard = shards[i];
            e->index = i;
            l->count += code == SP_BUILD_OK;
        }
    }
    if (code == SP_BUILD_OK && l->count != 0)
        qsort(l->entries, l->count, sizeof *l->entries, compare_entries);
    /* The same value twice on one shard is harmless, as it is in one partition's list. */
    for (size_t i = 1; i < l->count && code == SP_BUILD_OK; i++) {
        const list_entry *x = &l->entries[i - 1], *y = &l->entries[i];
        if (x->shard != y->shard && compare_bytes(x->value.data, x->value.len, y->value.data, y->value.len) == 0) {
            code = SP_BUILD_DUPLICATE;
            at = y->index;
            other = x->index;
        }
    }
    if (code == SP_BUILD_OK)
        return &l->base.pub;
    sp_placement_release(&l->base.pub);
    return sp_build_failed(error, code, at, other, 0);
}

/* ---- range ---- */

typedef struct {
    bound *lower, *upper; /* nkeys each */
    size_t nkeys;
    size_t index;
    int32_t shard;
} range_entry;

typedef struct {
    sp_base base;
    int32_t default_answer;
    size_t count;
    range_entry *entries; /* sorted by lower bound, without overlap */
    bound *bounds;        /* all of them, the entries' memory */
    sp_keytype types[];
} range_placement;

static void destroy_range(sp_base *self)
{
    range_placement *r = (range_placement *)(void *)self;
    if (r->bounds != NULL)
        for (size_t i = 0; i < r->count * r->base.pub.nkeys * 2; i++)
            free(r->bounds[i].data);
    free(r->bounds);
    free(r->entries);
}

/* partition_rbound_cmp without its rule for equal bounds: columns after an infinite one do not count. */
static int compare_bounds(const bound *a, const bound *b, size_t nkeys)
{
    for (size_t k = 0; k < nkeys; k++) {
        if (a[k].kind != b[k].kind)
            return a[k].kind < b[k].kind ? -1 : 1;
        if (a[k].kind != SP_BOUND_VALUE)
            return 0;
        int order = compare_bytes(a[k].data, a[k].len, b[k].data, b[k].len);
        if (order != 0)
            return order;
    }
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const range_entry *x = a, *y = b;
    return compare_bounds(x->lower, y->lower, x->nkeys);
}

typedef struct {
    const uint8_t *data;
    size_t len;
} span;

static int compare_key(const span *key, const bound *b, size_t nkeys)
{
    for (size_t k = 0; k < nkeys; k++) {
        if (b[k].kind != SP_BOUND_VALUE)
            return -b[k].kind;
        int order = compare_bytes(key[k].data, key[k].len, b[k].data, b[k].len);
        if (order != 0)
            return order;
    }
    return 0;
}

static int32_t place_range(const sp_placement *self, const sp_value *values, int binary)
{
    const range_placement *r = (const range_placement *)(const void *)self;
    uint8_t bufs[SP_MAX_KEYS][SP_MAX_BOUND];
    span key[SP_MAX_KEYS];
    size_t nkeys = self->nkeys;
    int any_null = 0;
    int32_t unsupported = SP_OK;
    for (size_t k = 0; k < nkeys; k++) {
        if (values[k].is_null) {
            any_null = 1;
            continue;
        }
        int32_t status = sp_key_canonical(r->types[k], &r->base.settings, &values[k], binary, bufs[k], SP_MAX_BOUND,
                                          &key[k].data, &key[k].len);
        if (status == SP_INVALID)
            return SP_INVALID;
        if (status != SP_OK)
            unsupported = status;
    }
    if (unsupported != SP_OK)
        return unsupported;
    if (any_null)
        return r->default_answer;
    size_t low = 0, high = r->count; /* to the first range whose lower bound is above the key */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_key(key, r->entries[middle].lower, nkeys) < 0)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == 0 || compare_key(key, r->entries[low - 1].upper, nkeys) >= 0)
        return r->default_answer;
    return r->entries[low - 1].shard;
}

/* Copies one bound tuple; an SP_BUILD_ code, with the column it is about. */
static int32_t copy_bounds(const range_placement *r, const sp_bound *given, bound *out, size_t *column)
{
    size_t nkeys = r->base.pub.nkeys;
    for (size_t k = 0; k < nkeys; k++) {
        *column = k;
        out[k].kind = given[k].kind;
        if (k > 0 && out[k - 1].kind != SP_BOUND_VALUE && out[k - 1].kind != out[k].kind)
            return SP_BUILD_MIN_MAX;
        if (given[k].kind != SP_BOUND_VALUE)
            continue;
        if (given[k].value.is_null)
            return SP_BUILD_NULL;
        int32_t code = copy_canonical(r->types[k], &r->base.settings, &given[k].value, &out[k]);
        if (code != SP_BUILD_OK)
            return code;
    }
    return SP_BUILD_OK;
}

sp_placement *sp_placement_range(uint32_t nshards, const sp_keytype *types, size_t nkeys, const sp_bound *lower,
                                 const sp_bound *upper, const int32_t *shards, size_t nranges,
                                 int32_t default_shard, const sp_settings *settings, sp_build_error *error)
{
    error->code = SP_BUILD_OK;
    if (!common_ok(nshards, default_shard) || nkeys == 0 || nkeys > SP_MAX_KEYS || nranges > INT32_MAX)
        return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, 0);
    for (size_t k = 0; k < nkeys; k++)
        if (!sp_keytype_ok(types[k]))
            return sp_build_failed(error, SP_BUILD_ARGUMENT, 0, 0, k);
    range_placement *r =
        (range_placement *)(void *)sp_base_new(sizeof *r + nkeys * sizeof *types, nshards, (uint32_t)nkeys);
    if (r == NULL)
        return sp_build_failed(error, SP_BUILD_MEMORY, 0, 0, 0);
    r->base.destroy = destroy_range;
    r->base.settings = *settings;
    r->base.pub.place = place_range;
    r->default_answer = or_none(default_shard);
    memcpy(r->types, types, nkeys * sizeof *types);
    r->count = nranges;
    r->entries = calloc(nranges + 1, sizeof *r->entries);
    r->bounds = calloc(nranges * nkeys * 2 + 1, sizeof *r->bounds);
    int32_t code = r->entries == NULL || r->bounds == NULL ? SP_BUILD_MEMORY : SP_BUILD_OK;
    size_t at = 0, other = 0, column = 0;
    for (size_t i = 0; i < nranges && code == SP_BUILD_OK; i++) {
        range_entry *e = &r->entries[i];
        at = i;
        *e = (range_entry){r->bounds + 2 * i * nkeys, r->bounds + (2 * i + 1) * nkeys, nkeys, i, shards[i]};
        code = shard_ok(nshards, shards[i]) ? SP_BUILD_OK : SP_BUILD_ARGUMENT;
        if (code == SP_BUILD_OK)
            code = copy_bounds(r, lower + i * nkeys, e->lower, &column);
        if (code == SP_BUILD_OK)
            code = copy_bounds(r, upper + i * nkeys, e->upper, &column);
        if (code == SP_BUILD_OK && compare_bounds(e->lower, e->upper, nkeys) >= 0)
            code = SP_BUILD_EMPTY;
    }
    if (code == SP_BUILD_OK && nranges != 0)
        qsort(r->entries, nranges, sizeof *r->entries, compare_ranges);
    for (size_t i = 1; i < nranges && code == SP_BUILD_OK; i++) {
        if (compare_bounds(r->entries[i - 1].upper, r->entries[i].lower, nkeys) > 0) {
            code = SP_BUILD_OVERLAP;
            at = r->entries[i].index;
            other = r->entries[i - 1].index;
        }
    }
    if (code == SP_BUILD_OK)
        return &r->base.pub;
    sp_placement_release(&r->base.pub);
    return sp_build_failed(error, code, at, other, column);
}

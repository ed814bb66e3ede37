/*
 * The boundary between splitting and placement: from the values of a row's key columns to the shard.
 *
 * A placement is immutable once built, may be shared between threads, and sp_place() neither allocates,
 * locks nor reads anything but its arguments. Values are borrowed for the call.
 */
#ifndef SP_PLACEMENT_H
#define SP_PLACEMENT_H

#include "types/value.h"

/* What sp_place() answers when it is not a shard's number, besides SP_INVALID and SP_UNSUPPORTED. */
enum {
    SP_EVERYWHERE = -1,  /* a reference table: every shard */
    SP_NO_PARTITION = -4 /* a list or range without a shard for it */
};

/* PARTITION_MAX_KEYS of PostgreSQL. */
#define SP_MAX_KEYS 32

/* The longest list value or range bound of numeric and bytea, as canonical bytes: sp_place() compares on the stack. */
#define SP_MAX_BOUND 1024

typedef struct sp_placement sp_placement;

struct sp_placement {
    int32_t (*place)(const sp_placement *self, const sp_value *values, int binary);
    uint32_t nshards;
    uint32_t nkeys; /* how many values place reads: 0 for reference and single */
    uint32_t integer_bits; /* not 0: the key is one integer of so many bits, for sp_place_hashes */
};

/* The shard of a row, or SP_EVERYWHERE ... SP_NO_PARTITION. values has p->nkeys entries. */
static inline int32_t sp_place(const sp_placement *p, const sp_value *values, int binary)
{
    return p->place(p, values, binary);
}

/* The shards of n keys, given their hashes, of a placement with integer_bits. */
void sp_place_hashes(const sp_placement *p, const uint64_t *hashes, size_t n, int32_t *shards);

/* Why a placement could not be built; index and other count list values or ranges as given. */
enum {
    SP_BUILD_OK = 0,
    SP_BUILD_MEMORY,
    SP_BUILD_ARGUMENT,  /* counts, type codes or shard numbers out of range */
    SP_BUILD_SPELLING,  /* value `index` (range: column `column`) is not what the type reads */
    SP_BUILD_UNCERTAIN, /* its meaning depends on a setting */
    SP_BUILD_TOO_LONG,  /* over SP_MAX_BOUND */
    SP_BUILD_DUPLICATE, /* list value `index` is on another shard as value `other` */
    SP_BUILD_EMPTY,     /* range `index`: the lower bound is not below the upper */
    SP_BUILD_OVERLAP,   /* ranges `index` and `other` overlap */
    SP_BUILD_NULL,      /* a range bound cannot be NULL */
    SP_BUILD_MIN_MAX    /* every bound after MINVALUE (MAXVALUE) must be the same */
};

typedef struct {
    int32_t code;
    size_t index;
    size_t other;
    size_t column;
} sp_build_error;

enum { SP_BOUND_MINVALUE = -1, SP_BOUND_VALUE = 0, SP_BOUND_MAXVALUE = 1 };

typedef struct {
    int32_t kind; /* SP_BOUND_... */
    sp_value value;
} sp_bound;

#define SP_NO_DEFAULT (-1)

/* Constructors: NULL with *error filled on failure; the caller owns one reference. Bounds are copied. */
sp_placement *sp_placement_hash(uint32_t nshards, const sp_keytype *types, size_t nkeys,
                                const sp_settings *settings, sp_build_error *error);
sp_placement *sp_placement_list(uint32_t nshards, sp_keytype type, const sp_value *values, const int32_t *shards,
                                size_t nvalues, int32_t default_shard, const sp_settings *settings,
                                sp_build_error *error);
/* lower and upper: nranges rows of nkeys bounds. */
sp_placement *sp_placement_range(uint32_t nshards, const sp_keytype *types, size_t nkeys, const sp_bound *lower,
                                 const sp_bound *upper, const int32_t *shards, size_t nranges,
                                 int32_t default_shard, const sp_settings *settings, sp_build_error *error);
sp_placement *sp_placement_reference(uint32_t nshards, sp_build_error *error);
sp_placement *sp_placement_single(uint32_t nshards, uint32_t shard, sp_build_error *error);

/* The reference count is atomic; release of NULL is allowed. */
sp_placement *sp_placement_retain(sp_placement *p);
void sp_placement_release(sp_placement *p);

#endif

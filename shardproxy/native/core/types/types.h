/*
 * Key types: what a row of types.def holds, and what is computed from it.
 *
 * A value is read once into an sp_datum, from its text spelling as PostgreSQL's input function reads it or from a
 * binary field as its receive function does; the hash, the canonical form and the text are made from that. Nothing
 * here allocates.
 */
#ifndef SP_TYPES_H
#define SP_TYPES_H

#include "value.h"

typedef struct sp_numeric sp_numeric;

/* A value, in the fields that its type uses. */
typedef struct {
    int64_t integer;      /* integers, boolean, dates and times; an interval's time; a float's bits as float8 */
    int32_t days, months; /* of an interval */
    int infinite;         /* it is -infinity or infinity */
    const uint8_t *data; /* types that are bytes: in the value that was read, or in buf */
    size_t len;
    uint8_t buf[24];
    int escaped;         /* bytea.c: how data spells the len bytes that count */
    sp_numeric *numeric; /* the caller's, where the type is `wide` */
} sp_datum;

/* Text in the server's encoding, or a field's bytes. SP_OK, SP_INVALID or SP_UNSUPPORTED; never a guess between them. */
typedef int32_t sp_read_fn(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d);
/* The type's extended hash function, with the seed of hash partitioning. */
typedef uint64_t sp_hash_fn(const sp_datum *d);
/*
 * Bytes that are equal where PostgreSQL's values are, and sort as they do (strings by bytes). *out is buf or in the
 * value; a form longer than cap (at least 16) is cut off there. Returns the whole length.
 */
typedef size_t sp_canonical_fn(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out);
/* The type's output function, under DateStyle ISO, TimeZone UTC, IntervalStyle postgres. As sp_canonical_fn. */
typedef size_t sp_write_fn(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out);

typedef struct {
    const char *name;   /* pg_type.typname */
    const char *sql;    /* as format_type() and CREATE TABLE spell it */
    uint32_t oid;       /* pg_type.oid */
    const char *family; /* of hash operators: across its types, equal values hash alike */
    uint32_t integer_bits; /* not 0: plain digits are the value, in so many bits (simd/integers.h) */
    int wide;           /* its datum needs an sp_numeric */
    int collatable;     /* equality and order are a collation's; here they are those of "C" */
    int varying;        /* its text depends on settings of the session */
    const char *same;     /* types whose text this one reads as their value, compared and assigned alike */
    const char *literals; /* types of a column's default whose text this one reads as the value stored */
    const char *understood, *refused; /* for the documentation */
    sp_read_fn *read, *receive;
    sp_hash_fn *hash;
    sp_canonical_fn *canonical;
    sp_write_fn *write;
} sp_type;

/* By SP_KEY_ code, from 1 to SP_KEY_LAST. */
extern const sp_type sp_types[];

#define SP_TYPE(code, read, receive, hash, canonical, write, ...)                                                \
    sp_read_fn read, receive;                                                                                    \
    sp_hash_fn hash;                                                                                             \
    sp_canonical_fn canonical;                                                                                   \
    sp_write_fn write;
#include "types.def"
#undef SP_TYPE

int sp_keytype_ok(sp_keytype type);

/* The value is not NULL. */
int32_t sp_key_hash(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash);
int32_t sp_key_canonical(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf,
                         size_t cap, const uint8_t **out, size_t *len);
int32_t sp_key_text(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf, size_t cap,
                    const uint8_t **out, size_t *len);

#endif

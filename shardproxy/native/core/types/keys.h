/*
 * Key values: text spellings as PostgreSQL's input functions read them, binary fields as its receive functions
 * do, and from both the hash and the canonical form.
 *
 * Every reader answers SP_OK, SP_INVALID (PostgreSQL certainly refuses) or SP_UNSUPPORTED (not known here), and
 * never guesses between them. None allocates. Internal to the core: the boundary is placement.h.
 */
#ifndef SP_KEYS_H
#define SP_KEYS_H

#include "value.h"

#include <string.h>

/* isspace() of the C locale, which PostgreSQL's input functions skip. */
static inline int sp_is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline int sp_is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The value of a hexadecimal digit, -1 for any other byte. */
extern const int8_t sp_hex_values[256];

static inline int sp_hex_digit(uint8_t c)
{
    return sp_hex_values[c];
}

static inline uint8_t sp_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static inline uint32_t sp_load_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t sp_load_be32(const uint8_t *p)
{
    return sp_load_be16(p) << 16 | sp_load_be16(p + 2);
}

static inline uint64_t sp_load_be64(const uint8_t *p)
{
    return (uint64_t)sp_load_be32(p) << 32 | sp_load_be32(p + 4);
}

/* Two's complement without the conversion that C leaves to the implementation. */
static inline int64_t sp_signed64(uint64_t u)
{
    int64_t v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline int32_t sp_signed32(uint32_t u)
{
    int32_t v;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* Case-insensitive equality with a lower-case ASCII word. */
static inline int sp_is_word(const uint8_t *p, size_t len, const char *word)
{
    size_t n = strlen(word);
    if (len != n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (sp_lower(p[i]) != (uint8_t)word[i])
            return 0;
    return 1;
}

static inline void sp_trim(const uint8_t **p, size_t *len)
{
    while (*len != 0 && sp_is_space((*p)[0]))
        (*p)++, (*len)--;
    while (*len != 0 && sp_is_space((*p)[*len - 1]))
        (*len)--;
}

/*
 * The answer for a spelling that the C locale does not read. In single-byte server encodings the server's own
 * locale may count a byte over 127 as white space, so only ASCII is certain there.
 */
int32_t sp_refuse(const sp_settings *s, const uint8_t *p, size_t len);

/* keys_int.c: int2in, int4in, int8in (pg_strtoint16/32/64), boolin, and the receive functions. */
int32_t sp_read_int(const sp_settings *s, const uint8_t *p, size_t len, int64_t min, int64_t max, int64_t *out);
int32_t sp_read_bool(const sp_settings *s, const uint8_t *p, size_t len, int64_t *out);

/* keys_datetime.c: date in days, timestamps in microseconds since 2000-01-01. */
int32_t sp_read_date(const sp_settings *s, const uint8_t *p, size_t len, int64_t *out);
int32_t sp_read_timestamp(const sp_settings *s, const uint8_t *p, size_t len, int with_zone, int32_t typmod,
                          int64_t *out);
int32_t sp_recv_date(const uint8_t *p, size_t len, int64_t *out);
int32_t sp_recv_timestamp(const uint8_t *p, size_t len, int32_t typmod, int64_t *out);

/* keys_text.c. The text readers give the length that counts; the bytes are the input's own. */
int32_t sp_read_text(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, size_t *out);
int32_t sp_read_bpchar(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, size_t *out);
int32_t sp_read_uuid(const uint8_t *p, size_t len, uint8_t out[16]);

/* keys_bytea.c: the decoded bytes one by one. */
typedef struct {
    const uint8_t *p, *end;
    int mode;
} sp_bytea;

int32_t sp_bytea_open(const uint8_t *p, size_t len, int binary, sp_bytea *it, size_t *decoded);
int sp_bytea_next(sp_bytea *it, uint8_t *byte); /* 0 at the end */

/* keys_numeric.c */
typedef enum { SP_NUM_NINF = 0, SP_NUM_NEG, SP_NUM_ZERO, SP_NUM_POS, SP_NUM_INF, SP_NUM_NAN } sp_num_kind;

/* From weight 32767 (NUMERIC_WEIGHT_MAX) down to 16383 decimal places (NUMERIC_DSCALE_MAX), base 10000. */
#define SP_NUM_DIGITS (32768 + 4096 + 1)

typedef struct {
    sp_num_kind kind;
    int32_t weight; /* of digits[0], a power of 10000 */
    uint32_t ndigits;
    uint16_t digits[SP_NUM_DIGITS]; /* stripped: neither first nor last is zero */
} sp_numeric;

int32_t sp_read_numeric(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, sp_numeric *out);
int32_t sp_recv_numeric(const sp_settings *s, const uint8_t *p, size_t len, int32_t typmod, sp_numeric *out);
uint64_t sp_hash_numeric(const sp_numeric *n, uint64_t seed);
/* Writes at most cap bytes of the order-preserving form and returns its whole length. */
size_t sp_canonical_numeric(const sp_numeric *n, uint8_t *buf, size_t cap);

/* keys.c */

/* Integers, boolean, date and timestamps: the value as one integer. Other types are the caller's mistake. */
int32_t sp_read_fixed(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, int64_t *out);

/* The type's extended hash with the partition seed. The value is not NULL. */
int32_t sp_key_hash(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash);

/*
 * The canonical form: bytes that are equal where PostgreSQL's values are, and sort as they do (strings by
 * bytes). *out points into buf or into the value; a form longer than cap (at least 16) is cut off at cap, *len
 * says the whole length.
 */
int32_t sp_key_canonical(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf,
                         size_t cap, const uint8_t **out, size_t *len);

int sp_keytype_ok(sp_keytype type);

#endif

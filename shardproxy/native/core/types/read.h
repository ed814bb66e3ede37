/* What the types' readers and writers are made of. Internal to types/: the boundary is types.h. */
#ifndef SP_READ_H
#define SP_READ_H

#include "hash.h"
#include "types.h"

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

/* ---- writing: what does not fit is counted, not written ---- */

typedef struct {
    uint8_t *out;
    size_t cap, len;
} sp_writer;

static inline void sp_put(sp_writer *w, uint8_t byte)
{
    if (w->len < w->cap)
        w->out[w->len] = byte;
    w->len++;
}

static inline void sp_put_word(sp_writer *w, const char *word)
{
    while (*word != 0)
        sp_put(w, (uint8_t)*word++);
}

/* Decimal, with zeros in front up to `width` digits. */
void sp_put_integer(sp_writer *w, int64_t value, int width);
/* Two lower-case hexadecimal digits. */
void sp_put_hex(sp_writer *w, uint8_t byte);

static inline void sp_store_be64(uint8_t *p, uint64_t bits)
{
    for (int i = 7; i >= 0; i--, bits >>= 8)
        p[i] = (uint8_t)bits;
}

/* ---- numeric.c ---- */

typedef enum { SP_NUM_NINF = 0, SP_NUM_NEG, SP_NUM_ZERO, SP_NUM_POS, SP_NUM_INF, SP_NUM_NAN } sp_num_kind;

/* From weight 32767 (NUMERIC_WEIGHT_MAX) down to 16383 decimal places (NUMERIC_DSCALE_MAX), base 10000. */
#define SP_NUM_DIGITS (32768 + 4096 + 1)

struct sp_numeric {
    sp_num_kind kind;
    int32_t weight; /* of digits[0], a power of 10000 */
    int32_t scale;  /* decimals shown */
    uint32_t ndigits;
    uint16_t digits[SP_NUM_DIGITS]; /* stripped: neither first nor last is zero */
};

#endif

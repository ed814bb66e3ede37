/* What the types' readers and writers are made of. Internal to types/: the boundary is types.h. */
#ifndef SP_READ_H
#define SP_READ_H

#include "hash.h"
#include "network_order.h"
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

#endif

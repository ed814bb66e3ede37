/* A growable run of bytes. Grows by doubling, keeps its memory until freed. */
#ifndef SP_BYTEBUF_H
#define SP_BYTEBUF_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t len, cap;
} sp_buf;

/* Room for `more` bytes after len; nonzero: out of memory, nothing changed. */
static inline int sp_buf_reserve(sp_buf *b, size_t more)
{
    size_t need = b->len + more;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 512;
    while (cap < need)
        cap *= 2;
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return -1;
    b->data = data;
    b->cap = cap;
    return 0;
}

static inline int sp_buf_append(sp_buf *b, const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    if (sp_buf_reserve(b, n))
        return -1;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    return 0;
}

static inline void sp_buf_free(sp_buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

#endif

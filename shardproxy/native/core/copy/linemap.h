/*
 * From a shard's COPY line number to the client's, in bounded memory.
 *
 * Each row leaves a varint: how far the client's line moved since this shard's previous row, and (rarely) how many
 * lines the row itself has on the shard. Blocks are taken as needed up to the budget; then the oldest is forgotten,
 * because a shard reports about what it read recently.
 */
#ifndef SP_LINEMAP_H
#define SP_LINEMAP_H

#include <stddef.h>
#include <stdint.h>

#define SP_LINEMAP_BLOCK 65536 /* bytes of log in one block: one allocation per about as many rows */

typedef struct {
    uint64_t shard_line, client_line; /* before the block's first row */
    uint32_t used;
    uint8_t log[SP_LINEMAP_BLOCK];
} sp_line_block;

typedef struct {
    sp_line_block **blocks; /* a ring */
    size_t cap, count, first, limit;
    uint8_t *at, *end;                /* the free part of the newest block */
    uint64_t shard_line, client_line; /* of the last row */
} sp_linemap;

void sp_linemap_init(sp_linemap *m, size_t budget);
void sp_linemap_free(sp_linemap *m);
int sp_linemap_slow(sp_linemap *m, uint64_t lines, uint64_t delta); /* nonzero: out of memory */
int sp_linemap_find(const sp_linemap *m, uint64_t shard_line, uint64_t *client_line); /* 0: forgotten or not sent */

/* A row of one line, which is `moved` (below 64) after the shard's previous row; there must be room, at < end. */
static inline void sp_linemap_step(sp_linemap *m, uint64_t moved)
{
    *m->at++ = (uint8_t)(moved << 1);
    m->shard_line++;
    m->client_line += moved;
}

/* A row of `lines` lines on the shard, whose last line is client_line at the client. */
static inline int sp_linemap_add(sp_linemap *m, uint64_t lines, uint64_t client_line)
{
    uint64_t delta = client_line - m->client_line;
    if (lines == 1 && delta < 64 && m->at < m->end) {
        sp_linemap_step(m, delta);
        return 0;
    }
    if (sp_linemap_slow(m, lines, delta))
        return -1;
    m->shard_line += lines;
    m->client_line = client_line;
    return 0;
}

#endif

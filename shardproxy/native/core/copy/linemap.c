#include "linemap.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ENTRY 20 /* two 64-bit varints */

void sp_linemap_init(sp_linemap *m, size_t budget)
{
    memset(m, 0, sizeof *m);
    m->limit = budget / SP_LINEMAP_BLOCK;
    if (m->limit < 2)
        m->limit = 2;
}

void sp_linemap_free(sp_linemap *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->blocks[(m->first + i) % m->cap]);
    free(m->blocks);
    memset(m, 0, sizeof *m);
}

static sp_line_block *block_at(const sp_linemap *m, size_t i)
{
    return m->blocks[(m->first + i) % m->cap];
}

static void close_block(sp_linemap *m)
{
    if (m->count) {
        sp_line_block *last = block_at(m, m->count - 1);
        last->used = (uint32_t)(m->at - last->log);
    }
}

static int grow_ring(sp_linemap *m)
{
    size_t cap = m->cap ? m->cap * 2 : 4;
    if (cap > m->limit)
        cap = m->limit;
    sp_line_block **blocks = malloc(cap * sizeof *blocks);
    if (!blocks)
        return -1;
    for (size_t i = 0; i < m->count; i++)
        blocks[i] = block_at(m, i);
    free(m->blocks);
    m->blocks = blocks;
    m->cap = cap;
    m->first = 0;
    return 0;
}

static int open_block(sp_linemap *m)
{
    sp_line_block *block;
    close_block(m);
    if (m->count == m->limit) {
        block = block_at(m, 0);
        m->first = (m->first + 1) % m->cap;
        m->count--;
    } else {
        if (m->count == m->cap && grow_ring(m))
            return -1;
        block = malloc(sizeof *block);
        if (!block)
            return -1;
    }
    m->blocks[(m->first + m->count) % m->cap] = block;
    m->count++;
    block->shard_line = m->shard_line;
    block->client_line = m->client_line;
    block->used = 0;
    m->at = block->log;
    /* The inline path writes one byte at a time; the slow one needs room for a whole entry. */
    m->end = block->log + SP_LINEMAP_BLOCK;
    return 0;
}

static uint8_t *put_varint(uint8_t *at, uint64_t v)
{
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

static const uint8_t *get_varint(const uint8_t *at, uint64_t *v)
{
    int shift = 0;
    *v = 0;
    for (;; shift += 7) {
        uint8_t byte = *at++;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return at;
    }
}

int sp_linemap_slow(sp_linemap *m, uint64_t lines, uint64_t delta)
{
    if (m->end - m->at < MAX_ENTRY && open_block(m))
        return -1;
    m->at = put_varint(m->at, delta << 1 | (lines != 1));
    if (lines != 1)
        m->at = put_varint(m->at, lines);
    return 0;
}

int sp_linemap_find(const sp_linemap *m, uint64_t shard_line, uint64_t *client_line)
{
    size_t low = 0, high = m->count;
    if (shard_line > m->shard_line)
        return 0;
    while (low < high) { /* the last block that begins before the line */
        size_t middle = low + (high - low) / 2;
        if (block_at(m, middle)->shard_line < shard_line)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return 0;
    const sp_line_block *block = block_at(m, low - 1);
    const uint8_t *at = block->log, *end = low == m->count ? m->at : block->log + block->used;
    uint64_t shard = block->shard_line, client = block->client_line;
    while (at < end) {
        uint64_t v, lines = 1;
        at = get_varint(at, &v);
        if (v & 1)
            at = get_varint(at, &lines);
        shard += lines;
        client += v >> 1;
        if (shard >= shard_line) {
            /* A shard may stop inside a row of several lines; never before the row's first one. */
            uint64_t back = shard - shard_line, most = (v >> 1) ? (v >> 1) - 1 : 0;
            *client_line = client - (back < most ? back : most);
            return 1;
        }
    }
    return 0;
}

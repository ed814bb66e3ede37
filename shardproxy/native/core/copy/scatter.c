/* Each shard's buffer: CopyData messages filled to the last byte, their length written in place when sealed. */
#include "split.h"

#include "network_order.h"

static int open_buffer(sp_splitter *s, sp_shard *shard)
{
    shard->base = s->sink.alloc(s->sink.context, s->opt.buffer_size, &shard->handle);
    if (!shard->base)
        return sp_fail_memory(s);
    shard->used = SP_MESSAGE_HEADER;
    return 0;
}

int sp_seal(sp_splitter *s, sp_shard *shard, int32_t number)
{
    if (!shard->base)
        return 0;
    const size_t used = shard->used;
    sp_message_header(shard->base, 'd', (uint32_t)(used - 1));
    void *handle = shard->handle;
    shard->base = NULL;
    shard->handle = NULL;
    shard->used = s->opt.buffer_size;
    if (s->sink.seal(s->sink.context, number, handle, used, s->opt.buffer_size))
        return sp_fail_memory(s);
    return 0;
}

int sp_put_slow(sp_splitter *s, sp_shard *shard, int32_t number, const uint8_t *p, size_t n)
{
    while (n) {
        if (!shard->base && open_buffer(s, shard))
            return -1;
        size_t room = s->opt.buffer_size - shard->used;
        size_t part = n < room ? n : room;
        memcpy(shard->base + shard->used, p, part);
        shard->used += part;
        p += part;
        n -= part;
        if (shard->used == s->opt.buffer_size && sp_seal(s, shard, number))
            return -1;
    }
    return 0;
}

int sp_put_all(sp_splitter *s, const uint8_t *p, size_t n)
{
    if (s->constant_shard == SP_EVERYWHERE)
        return sp_put_slow(s, &s->everywhere, SP_BROADCAST, p, n);
    for (uint32_t i = 0; i < s->nshards; i++)
        if (sp_put_slow(s, &s->shards[i], (int32_t)i, p, n))
            return -1;
    return 0;
}

/* The row about to be placed is one that PostgreSQL refuses; its line is that of the row when it is complete. */
int sp_note_poison(sp_splitter *s, int32_t target)
{
    if (target >= 0)
        s->shards[target].poison++;
    if (s->npoison < SP_POISON_KEPT) {
        s->poison_shard[s->npoison] = target;
        s->poison_line[s->npoison] = s->lines + 1 + s->row_extra;
        s->npoison++;
    }
    return 0;
}

/*
 * The usual key, one integer that hash placement reads: the shards of many rows at once.
 *
 * Reading the keys, hashing them and copying the rows are loops of their own: in a row by row loop each load waits
 * for the stores of the row before, whose addresses depend on its hash.
 */
#include "simd/digits.h"
#include "split.h"

static int of_integer(uint8_t c)
{
    return c == '-' || (c >= '0' && c <= '9');
}

static int like_integer(const sp_bytes *marker)
{
    size_t i = 0;
    while (i < marker->len && of_integer(marker->data[i]))
        i++;
    return marker->len && i == marker->len;
}

/* Whether an integer's plain spelling can only mean that integer. */
int sp_integer_key(const sp_splitter *s)
{
#ifdef SP_SWAR_WIDE
    const sp_options *o = &s->opt;
    if (s->constant_shard != SP_NO_CONSTANT || s->nkeys != 1 || !o->placement->integer_bits || o->format == SP_BINARY)
        return 0;
    if (like_integer(&o->null_marker) || (o->has_default_marker && like_integer(&o->default_marker)))
        return 0;
    return !of_integer(o->delimiter) && !(o->format == SP_CSV && (of_integer(o->quote) || of_integer(o->escape)));
#else
    (void)s, (void)like_integer;
    return 0;
#endif
}

void sp_integer_shards(const sp_splitter *s, const sp_masks *m, const uint8_t *base, size_t readable, size_t at,
                       const uint32_t *ends, size_t n, int32_t *shards)
{
    uint64_t hashes[SP_BATCH_MOST];
    uint16_t others[SP_BATCH_MOST];
    const sp_integers_spec spec = {s->keys[0].field, s->eol == SP_EOL_CRNL ? 2 : 1, s->opt.placement->integer_bits};
    size_t nothers = sp_integers_run(&spec, m->delimiter, base, readable, at, ends, n, hashes, others);
    sp_place_hashes(s->opt.placement, hashes, n, shards);
    for (size_t i = 0; i < nothers; i++)
        shards[others[i]] = SP_ONE_BY_ONE;
}

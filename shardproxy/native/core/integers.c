/*
 * The usual key, one integer that hash placement reads: the shards of many rows at once.
 *
 * Reading the keys, hashing them and copying the rows are loops of their own: in a row by row loop each load waits
 * for the stores of the row before, whose addresses depend on its hash.
 */
#include "digits.h"
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

#ifdef SP_SWAR_WIDE
/* 64 bits of a bitmap from any bit on. */
static inline uint64_t bits_from(const uint64_t *words, size_t at)
{
    const uint64_t *w = words + (at >> 6);
    return w[0] >> (at & 63) | (w[1] << 1) << (~at & 63);
}

static inline size_t first_of(uint64_t bits)
{
    return (size_t)__builtin_ctzll(bits | 1ULL << 63);
}
#endif

void sp_integer_shards(const sp_splitter *s, const sp_masks *m, const uint8_t *base, size_t readable, size_t at,
                       const uint32_t *ends, size_t n, int32_t *shards)
{
#ifdef SP_SWAR_WIDE
    int64_t values[SP_BATCH];
    uint8_t others[SP_BATCH];
    size_t nothers = 0;
    values[0] = 0; /* n may be 0 */
    const int32_t field = s->keys[0].field;
    const size_t newline = s->eol == SP_EOL_CRNL ? 2 : 1;
    const unsigned spare = 64 - s->opt.placement->integer_bits;
    for (size_t i = 0; i < n; i++) {
        size_t begin = at, end = ends[i] + 1 - newline;
        uint64_t bits = bits_from(m->delimiter, at);
        int plain = 1;
        for (int32_t k = 0; k < field; k++) {
            plain &= bits != 0;
            begin = at + first_of(bits) + 1;
            bits &= bits - 1;
        }
        size_t stop = at + first_of(bits);
        /* Where these 64 bits do not reach, a delimiter may be among the bytes; it is not a digit. */
        stop = bits && stop < end ? stop : end;
        plain &= begin < stop && begin + 17 <= readable;
        int64_t value = 0;
        if (__builtin_expect(plain, 1)) {
            size_t len = stop - begin;
            plain = sp_read_16_digits(base + begin, len, &value);
            if (len > 16)
                plain = sp_read_digits(base + begin, len, &value);
        }
        plain &= (int64_t)((uint64_t)value << spare) >> spare == value;
        values[i] = value;
        others[nothers] = (uint8_t)i;
        nothers += !plain;
        at = ends[i] + 1;
    }
    sp_place_integers(s->opt.placement, values, n, shards);
    for (size_t i = 0; i < nothers; i++)
        shards[others[i]] = SP_ONE_BY_ONE;
#else
    (void)s, (void)m, (void)base, (void)readable, (void)at, (void)ends;
    for (size_t i = 0; i < n; i++)
        shards[i] = SP_ONE_BY_ONE;
#endif
}

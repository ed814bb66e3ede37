/*
 * Whole rows by bitmaps: the input is read once to tell where rows and fields end, and each row is copied once.
 *
 * Theory of operation
 *
 * sp_fast_span() gets a contiguous piece of the stream, which may begin and end inside a row. It goes over it in
 * batches of up to SP_MASK_BYTES. For each batch sp_masks_run() makes bitmaps, one bit a byte: newlines that end a row,
 * delimiters that end a field, line ends embedded in quotes, and `special`, the first byte that the bitmaps cannot
 * judge. Everything after that is arithmetic on bits.
 *
 *     piece   |....row began earlier.\n|row.......\n|row....\n|row.....        |
 *             0                        `row`        ends[0]   ends[1]          `limit`
 *     batch                       `scan`|<-------------- `len` ----------------->|
 *
 * Two positions move forward, `row` and `scan`, both counted from the piece's first byte:
 *
 *  - `row` is where the first row that has not been placed begins. It is what *taken means when the rest is left to the
 *    byte by byte scan. It moves past a row's newline when that row has been placed, never otherwise.
 *  - `scan` is where the batch begins. Rows whose beginning is under the bitmaps (`whole`) have their fields found in
 *    them. A row that began before, in an earlier batch (row < scan) or an earlier piece (`begun`: its bytes are in
 *    s->carry, or have left), is completed by the plain field scan, which reads its bytes again.
 *
 * A batch usually ends inside a row. If little of it lies after its last row, the next batch begins again at that row,
 * with a fresh mask state, so that the row is whole; else the next batch goes on where this one ended with the state
 * that it left (in quotes, after an escape), as it must for a row longer than a batch.
 *
 * The rows of a batch are taken some SP_BATCH at a time. If the key is one integer, their shards are computed together
 * (integers.c), and put_rows() copies those that go the usual way. Any other row, and the one at which put_rows()
 * stops, goes through take_row().
 *
 * A piece ends in one of three ways: the data's end marker was met (s->ended); a byte was met that only the byte by
 * byte scan can judge (leave_rest: s->row is reset, as that scan begins at a row's first byte, unless nothing was
 * taken); or everything was understood, and what is left of it is a row's beginning (keep_rest: kept in s->carry, with
 * the quote and escape state in s->row).
 */
#include "split.h"

/* A batch that ended this far after its last row is continued rather than begun again at that row. */
#define RESTART_BELOW 4096

static uint64_t count_bits(const uint64_t *words, size_t from, size_t to)
{
    uint64_t count = 0;
    for (size_t i = from; i < to;) { /* [from, to) in bits */
        size_t word = i >> 6, next = (word + 1) << 6;
        uint64_t bits = words[word] & (~0ULL << (i & 63));
        if (next > to)
            bits &= (1ULL << (to & 63)) - 1;
        count += (uint64_t)__builtin_popcountll(bits);
        i = next;
    }
    return count;
}

static inline int plain_value(sp_splitter *s, const sp_masks *m, size_t k, const uint8_t *field, size_t len)
{
    int marked = 0;
    if (m->any_marked && len)
        marked = memchr(field, s->opt.format == SP_CSV ? s->opt.quote : '\\', len) != NULL;
    if (!marked && !s->opt.transcode && !s->opt.has_default_marker && len != s->opt.null_marker.len) {
        sp_value *v = &s->values[s->key_index[k]];
        v->data = field;
        v->len = len;
        v->is_null = 0;
        return 0;
    }
    return sp_key_value(s, k, field, len, marked);
}

/* The key values of the row at bits [at, end) of the bitmaps; base is the byte of bit 0. */
static inline int extract(sp_splitter *s, const sp_masks *m, const uint8_t *base, size_t at, size_t end)
{
    size_t word = at >> 6;
    const size_t last = end >> 6; /* the newline's word exists, so this one does */
    uint64_t bits = m->delimiter[word] & (~0ULL << (at & 63));
    int32_t field = 0;
    for (size_t k = 0; k < s->nkeys; k++) {
        for (const int32_t wanted = s->keys[k].field; field < wanted; field++) {
            while (!bits) {
                if (++word > last)
                    return SP_FIELDS_MISSING;
                bits = m->delimiter[word];
            }
            size_t found = word * 64 + (size_t)__builtin_ctzll(bits);
            if (found >= end)
                return SP_FIELDS_MISSING;
            bits &= bits - 1;
            at = found + 1;
        }
        size_t w = word, stop = end;
        uint64_t b = bits;
        while (!b && ++w <= last)
            b = m->delimiter[w];
        if (b) {
            size_t found = w * 64 + (size_t)__builtin_ctzll(b);
            stop = found < end ? found : end;
        }
        if (plain_value(s, m, k, base + at, stop - at))
            return SP_FIELDS_ERROR;
    }
    return SP_FIELDS_OK;
}

/* What is left of a piece of the stream is the beginning of a row. */
static int keep_rest(sp_splitter *s, const sp_mask_state *st, const uint8_t *p, size_t n)
{
    if (sp_row_append(s, p, n))
        return -1;
    if (s->opt.format == SP_CSV) {
        s->row.in_quote = st->in_quote != 0;
        s->row.last_was_escape = st->escaped != 0;
        /* It may turn out to be the end of the data. */
        if (s->opt.server_version < 18 && s->released == 0 && s->carry.len <= 3 &&
            memcmp(s->carry.data, "\\.\r", s->carry.len) == 0) {
            s->hold = (uint32_t)s->carry.len;
            return 0;
        }
    } else {
        s->row.pending_escape = st->escaped != 0;
    }
    return 0;
}

/* The next rows' ends: SP_BATCH or all that there are, at most SP_BATCH_MOST. A word seldom has more than two. */
static inline size_t next_ends(const sp_masks *m, size_t words, size_t *word, uint32_t *ends)
{
    size_t w = *word, n = 0;
    for (; w < words && n < SP_BATCH; w++) {
        uint64_t bits = m->newline[w];
        const uint32_t first = (uint32_t)(w * 64);
        for (int i = 0; i < 2; i++) { /* without a branch: written always, counted if there */
            ends[n] = first + (uint32_t)__builtin_ctzll(bits | 1ULL << 63);
            n += bits != 0;
            bits &= bits - 1;
        }
        for (; __builtin_expect(bits != 0, 0); bits &= bits - 1)
            ends[n++] = first + (uint32_t)__builtin_ctzll(bits);
    }
    *word = w;
    return n;
}

/*
 * As many of the rows that end at `ends` as go the usual way: the shard is known, its buffer has room, no line end is
 * embedded. The first begins at *row; returns how many, and where the next one begins.
 */
static inline size_t put_rows(sp_splitter *s, const uint8_t *base, const uint8_t **row, const uint32_t *ends,
                              const int32_t *shards, size_t n)
{
    const size_t room = s->opt.buffer_size;
    const uint8_t *from = *row;
    const uint64_t lines = s->lines;
    sp_shard *const all = s->shards;
    size_t i = 0;
    for (; i < n && shards[i] >= 0; i++) {
        const uint8_t *to = base + ends[i] + 1;
        const size_t size = (size_t)(to - from);
        sp_shard *shard = &all[shards[i]];
        sp_linemap *map = &shard->map;
        const size_t used = shard->used;
        const uint64_t moved = lines + i + 1 - map->client_line;
        if (__builtin_expect(size >= room - used || moved >= 64 || map->at == map->end, 0))
            break; /* also a shard's first row, which is looked at more closely */
        shard->used = used + size;
        shard->rows++;
        sp_linemap_step(map, moved);
        memcpy(shard->base + used, from, size);
        from = to;
    }
    s->lines = lines + i;
    s->rows += i;
    *row = from;
    return i;
}

/*
 * A pass over a piece of the stream; see above. What other files fill is only pointed to, and the steps are inlined, so
 * that compilers keep the rest in registers.
 */
typedef struct {
    sp_splitter *s;
    const uint8_t *p;  /* the piece */
    size_t n, limit;   /* its bytes, and those of them that can be understood now */
    size_t row;        /* where the first row that has not been placed begins */
    size_t scan, len;  /* the bytes under the bitmaps */
    size_t counted;    /* embedded line ends are in s->row_extra up to this bit */
    size_t newline;    /* bytes of a row's end */
    int plain;         /* put_rows() may be tried */
    int begun, whole;  /* that row began in an earlier piece; begins under the bitmaps */
    sp_mask_state *st;
    sp_masks *m;
    uint32_t *ends;
    int32_t *shards;
} pass;

#define STEP __attribute__((always_inline)) static inline

enum { ENDED = 1 }; /* besides 0 and -1: the end marker was met */

/* A byte that only means something together with the next one is left to the byte by byte scan. */
static size_t limit_of(const sp_splitter *s, const uint8_t *p, size_t n)
{
    int cut = (s->eol == SP_EOL_CRNL && p[n - 1] == '\r') || (s->opt.format != SP_CSV && p[n - 1] == '\\');
    return n - (size_t)cut;
}

STEP void make_bitmaps(pass *f)
{
    const size_t left = f->limit - f->scan;
    f->len = left < SP_MASK_BYTES ? left : SP_MASK_BYTES;
    f->counted = 0;
    f->whole = f->row == f->scan && !f->begun;
    sp_masks_run(&f->s->spec, f->st, f->p + f->scan, f->len, f->m);
}

/* The ends of the next rows of the batch, before any special byte, and their shards if the key is one integer. */
STEP size_t find_rows(pass *f, size_t *word)
{
    size_t count = next_ends(f->m, (f->len + 63) / 64, word, f->ends);
    while (count != 0 && f->ends[count - 1] >= f->m->special)
        count--;
    if (count != 0 && f->s->integer_key) {
        const size_t cut = f->row < f->scan; /* the first row's key is not under these bitmaps */
        const size_t at = cut ? f->ends[0] + 1 : f->row - f->scan;
        f->shards[0] = SP_ONE_BY_ONE;
        sp_integer_shards(f->s, f->m, f->p + f->scan, f->n - f->scan, at, f->ends + cut, count - cut, f->shards + cut);
    }
    return count;
}

/* A row under the bitmaps. */
STEP int take_whole_row(pass *f, size_t i, const uint8_t *row, size_t size)
{
    sp_splitter *s = f->s;
    int extracted = SP_FIELDS_OK;
    if (s->integer_key && f->shards[i] >= 0)
        return sp_put_row(s, f->shards[i], row, size);
    if (__builtin_expect(sp_is_csv_marker(s, row, size - f->newline), 0))
        return ENDED;
    if (s->constant_shard == SP_NO_CONSTANT)
        extracted = extract(s, f->m, f->p + f->scan, f->row - f->scan, f->row + size - f->newline - f->scan);
    return extracted == SP_FIELDS_ERROR ? -1 : sp_place_keyed(s, row, size, extracted);
}

/* A row that began before the bitmaps, or a header. */
STEP int take_begun_row(pass *f, const uint8_t *row, size_t size)
{
    if (!f->begun && sp_is_csv_marker(f->s, row, size - f->newline))
        return ENDED;
    if (sp_row_complete(f->s, row, size, size - f->newline))
        return -1;
    f->begun = 0;
    f->whole = 1; /* the next row begins inside these bitmaps */
    return 0;
}

/* The row whose newline is the bit ends[i]. */
STEP int take_row(pass *f, size_t i)
{
    sp_splitter *s = f->s;
    const size_t at = f->ends[i], end = f->scan + at + 1;
    const uint8_t *row = f->p + f->row;
    if (f->m->any_embedded) {
        s->row_extra += count_bits(f->m->embedded, f->counted, at);
        f->counted = at;
    }
    int status = __builtin_expect(f->whole && !s->header_pending, 1) ? take_whole_row(f, i, row, end - f->row)
                                                                     : take_begun_row(f, row, end - f->row);
    if (status == 0)
        f->row = end;
    return status;
}

STEP int take_rows(pass *f)
{
    const sp_splitter *s = f->s;
    size_t word = 0, count;
    while ((count = find_rows(f, &word)) != 0) {
        for (size_t i = 0; i < count; i++) {
            if (__builtin_expect(f->plain && f->whole && !s->header_pending && !f->m->any_embedded, 1)) {
                const uint8_t *next = f->p + f->row;
                i += put_rows(f->s, f->p + f->scan, &next, f->ends + i, f->shards + i, count - i);
                f->row = (size_t)(next - f->p);
                if (i == count)
                    break;
            }
            int status = take_row(f, i);
            if (__builtin_expect(status != 0, 0))
                return status;
        }
    }
    return 0;
}

/* Where the next batch begins; placed tells whether this one had a row. */
STEP void next_batch(pass *f, int placed)
{
    const size_t end = f->scan + f->len;
    if (placed && end < f->limit && end - f->row < RESTART_BELOW) {
        f->scan = f->row;
        memset(f->st, 0, sizeof *f->st);
        return;
    }
    if (f->s->opt.format == SP_CSV && f->m->any_embedded)
        f->s->row_extra += count_bits(f->m->embedded, f->counted, f->len);
    f->scan = end;
}

/* The byte by byte scan goes on at `row`; if that began in an earlier piece, as if this one had not been looked at. */
STEP int leave_rest(pass *f, uint64_t extra_before, size_t *taken)
{
    if (f->row != 0)
        memset(&f->s->row, 0, sizeof f->s->row);
    f->s->row_extra = f->row != 0 ? 0 : extra_before;
    *taken = f->row;
    return 0;
}

int sp_fast_span(sp_splitter *s, const uint8_t *p, size_t n, size_t *taken)
{
    const int csv = s->opt.format == SP_CSV;
    const uint64_t extra_before = s->row_extra;
    sp_masks m;
    uint32_t ends[SP_BATCH_MOST + 2];
    int32_t shards[SP_BATCH_MOST];
    sp_mask_state st = {
        .in_quote = s->row.in_quote ? ~0ULL : 0,
        .escaped = csv ? s->row.last_was_escape : s->row.pending_escape,
    };
    pass f = {
        .s = s,
        .p = p,
        .n = n,
        .limit = limit_of(s, p, n),
        .newline = s->eol == SP_EOL_CRNL ? 2 : 1,
        .plain = s->integer_key && !s->opt.set_aside, /* marks are not its business */
        .begun = sp_row_begun(s),
        .st = &st,
        .m = &m,
        .ends = ends,
        .shards = shards,
    };
    s->spec.eol = s->eol;

    while (f.scan < f.limit) {
        const size_t first_row = f.row;
        make_bitmaps(&f);
        int status = take_rows(&f);
        if (status < 0)
            return -1;
        if (status == ENDED) {
            s->ended = 1;
            *taken = n;
            return 0;
        }
        if (__builtin_expect(m.special != SIZE_MAX, 0))
            return leave_rest(&f, extra_before, taken);
        next_batch(&f, f.row != first_row);
    }
    if (st.carriage) /* a carriage return that no newline follows */
        return leave_rest(&f, extra_before, taken);
    *taken = f.limit;
    memset(&s->row, 0, sizeof s->row);
    return f.row < f.limit || f.begun ? keep_rest(s, &st, p + f.row, f.limit - f.row) : 0;
}

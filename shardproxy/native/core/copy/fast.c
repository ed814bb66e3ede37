/*
 * Whole rows by bitmaps: the input is read once to tell where rows and fields end, and each row is copied once.
 *
 * A batch of bitmaps begins at a row where it can, so that a row's fields are found in them; a row that is longer
 * than a batch, or began in an earlier piece of the stream, is left to the plain field scan.
 */
#include "split.h"

/* A batch that ended this far behind its last row is continued rather than begun again at that row. */
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

int sp_fast_span(sp_splitter *s, const uint8_t *p, size_t n, size_t *taken)
{
    const size_t newline = s->eol == SP_EOL_CRNL ? 2 : 1;
    const int csv = s->opt.format == SP_CSV, keyed = s->constant_shard == SP_NO_CONSTANT;
    const uint64_t extra_before = s->row_extra;
    uint32_t ends[SP_BATCH_MOST + 2];
    int32_t shards[SP_BATCH_MOST];
    sp_masks m;
    sp_mask_state st = {0};
    size_t limit = n, row = 0, scan = 0, first_row = 0;
    /* A byte that only means something together with the next one is left to the byte by byte scan. */
    if ((s->eol == SP_EOL_CRNL && p[n - 1] == '\r') || (!csv && p[n - 1] == '\\'))
        limit--;
    st.in_quote = s->row.in_quote ? ~0ULL : 0;
    st.escaped = csv ? s->row.last_was_escape : s->row.pending_escape;
    s->spec.eol = s->eol;
    int begun = sp_row_begun(s);

    while (scan < limit) {
        size_t len = limit - scan < SP_MASK_BYTES ? limit - scan : SP_MASK_BYTES;
        size_t words = (len + 63) / 64, word = 0, counted = 0;
        int whole = row == scan && !begun;
        const uint8_t *base = p + scan;
        sp_masks_run(&s->spec, &st, base, len, &m);
        first_row = row;
        for (size_t nends = 0, i = 0;; i++) {
            if (i == nends) {
                nends = next_ends(&m, words, &word, ends);
                while (nends && ends[nends - 1] >= m.special)
                    nends--;
                if (!nends)
                    break;
                i = row < scan; /* a row that began before these bitmaps */
                shards[0] = SP_ONE_BY_ONE;
                if (s->integer_key)
                    sp_integer_shards(s, &m, base, n - scan, i ? ends[0] + 1 : row - scan, ends + i, nends - i,
                                      shards + i);
                i = 0;
            }
            if (__builtin_expect(s->integer_key && whole && !s->header_pending && !m.any_embedded, 1)) {
                const uint8_t *next = p + row;
                i += put_rows(s, base, &next, ends + i, shards + i, nends - i);
                row = (size_t)(next - p);
                if (i == nends) {
                    i--;
                    continue;
                }
            }
            size_t at = ends[i];
            size_t end = scan + at + 1;
            if (m.any_embedded) {
                s->row_extra += count_bits(m.embedded, counted, at);
                counted = at;
            }
            if (__builtin_expect(whole && !s->header_pending, 1)) {
                const uint8_t *r = p + row;
                size_t size = end - row;
                int extracted = SP_FIELDS_OK;
                if (s->integer_key && shards[i] >= 0) {
                    if (sp_put_row(s, shards[i], r, size))
                        return -1;
                    row = end;
                    continue;
                }
                if (__builtin_expect(sp_is_csv_marker(s, r, size - newline), 0)) {
                    s->ended = 1;
                    *taken = n;
                    return 0;
                }
                if (keyed)
                    extracted = extract(s, &m, base, row - scan, end - newline - scan);
                if (extracted == SP_FIELDS_ERROR || sp_place_keyed(s, r, size, extracted))
                    return -1;
            } else {
                if (!begun && sp_is_csv_marker(s, p + row, end - row - newline)) {
                    s->ended = 1;
                    *taken = n;
                    return 0;
                }
                if (sp_row_complete(s, p + row, end - row, end - row - newline))
                    return -1;
                begun = 0;
                whole = 1; /* the next row begins inside these bitmaps */
            }
            row = end;
        }
        if (__builtin_expect(m.special != SIZE_MAX, 0)) {
            if (row)
                memset(&s->row, 0, sizeof s->row);
            s->row_extra = row ? 0 : extra_before;
            *taken = row;
            return 0;
        }
        if (row != first_row && scan + len < limit && scan + len - row < RESTART_BELOW) {
            scan = row;
            memset(&st, 0, sizeof st);
        } else {
            if (csv && m.any_embedded)
                s->row_extra += count_bits(m.embedded, counted, len);
            scan += len;
        }
    }
    if (st.carriage) { /* a carriage return that no newline follows */
        if (row)
            memset(&s->row, 0, sizeof s->row);
        s->row_extra = row ? 0 : extra_before;
        *taken = row;
        return 0;
    }
    *taken = limit;
    memset(&s->row, 0, sizeof s->row);
    return row < limit || begun ? keep_rest(s, &st, p + row, limit - row) : 0;
}

/* The splitter's life. */
#include "splitter.h"

#include "split.h"

static int is_newline_like(uint8_t c)
{
    return c == '\n' || c == '\r' || c == '\\' || c == '.';
}

static uint8_t *own(uint8_t *at, sp_bytes *bytes)
{
    if (bytes->len)
        memcpy(at, bytes->data, bytes->len);
    bytes->data = at;
    return at + bytes->len;
}

static int copy_options(sp_splitter *s, const sp_options *o)
{
    size_t total = o->null_marker.len + o->default_marker.len + 1, nkeys = o->placement->nkeys ? o->nkeys : 0;
    for (size_t i = 0; i < nkeys; i++)
        total += o->keys[i].constant.value.len + o->keys[i].default_value.value.len;
    s->owned = malloc(total);
    s->keys = calloc(nkeys + 1, sizeof *s->keys);
    s->key_index = calloc(nkeys + 1, sizeof *s->key_index);
    s->values = calloc(nkeys + 1, sizeof *s->values);
    s->scratch = calloc(nkeys + 1, sizeof *s->scratch);
    s->shards = calloc((size_t)o->placement->nshards + 1, sizeof *s->shards);
    if (!s->owned || !s->keys || !s->key_index || !s->values || !s->scratch || !s->shards)
        return -1;
    uint8_t *at = own(s->owned, &s->opt.null_marker);
    at = own(at, &s->opt.default_marker);
    s->nvalues = nkeys;
    for (size_t i = 0; i < nkeys; i++) {
        sp_key key = o->keys[i];
        at = own(at, &key.constant.value);
        at = own(at, &key.default_value.value);
        if (key.field < 0) {
            s->values[i].data = key.constant.value.data;
            s->values[i].len = key.constant.value.len;
            s->values[i].is_null = key.constant.kind != SP_VALUE;
            continue;
        }
        size_t place = s->nkeys++;
        while (place > 0 && s->keys[place - 1].field > key.field) {
            s->keys[place] = s->keys[place - 1];
            s->key_index[place] = s->key_index[place - 1];
            place--;
        }
        s->keys[place] = key;
        s->key_index[place] = i;
    }
    if (o->transcode) {
        s->transcode = *o->transcode;
        s->opt.transcode = &s->transcode;
    }
    return 0;
}

sp_splitter *sp_splitter_new(const sp_options *o, const sp_sink *sink)
{
    sp_splitter *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->opt = *o;
    if (!o->set_aside)
        s->opt.max_row = SIZE_MAX;
    else if (o->max_row == 0 || o->max_row > SP_MAX_ROW)
        s->opt.max_row = SP_MAX_ROW;
    s->sink = *sink;
    if (copy_options(s, o)) {
        sp_splitter_free(s);
        return NULL;
    }
    s->nshards = o->placement->nshards;
    size_t budget = SP_LINEMAP_TOTAL / s->nshards;
    for (uint32_t i = 0; i <= s->nshards; i++) {
        sp_linemap_init(&s->shards[i].map, budget > SP_LINEMAP_LEAST ? budget : SP_LINEMAP_LEAST);
        s->shards[i].used = o->buffer_size;
    }
    s->constant_shard = SP_NO_CONSTANT;
    if (o->placement->nkeys == 0)
        s->constant_shard = sp_place(o->placement, s->values, o->format == SP_BINARY);
    s->header_pending = o->header && o->format != SP_BINARY;
    s->odd = is_newline_like(o->delimiter) ||
             (o->format == SP_CSV && (is_newline_like(o->quote) || o->escape == '\n' || o->escape == '\r'));
    s->spec.csv = o->format == SP_CSV;
    s->spec.quote = o->quote;
    s->spec.escape = o->escape;
    s->spec.delimiter = o->delimiter;
    s->integer_key = sp_integer_key(s);
    s->bin.need = 11;
    sp_row_reset(s);
    return s;
}

static void drop_buffer(sp_splitter *s, sp_shard *shard)
{
    if (shard->base)
        s->sink.drop(s->sink.context, shard->handle);
    sp_linemap_free(&shard->map);
    sp_buf_free(&shard->marks);
}

void sp_splitter_free(sp_splitter *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->shards && i <= s->nshards; i++)
        drop_buffer(s, &s->shards[i]);
    drop_buffer(s, &s->everywhere);
    for (size_t i = 0; s->scratch && i < s->nvalues; i++)
        sp_buf_free(&s->scratch[i]);
    sp_buf_free(&s->carry);
    free(s->shards);
    free(s->scratch);
    free(s->values);
    free(s->key_index);
    free(s->keys);
    free(s->owned);
    free(s);
}

void sp_splitter_flush(sp_splitter *s)
{
    if (s->constant_shard == SP_EVERYWHERE && s->everywhere.base)
        sp_seal(s, &s->everywhere, SP_BROADCAST);
    for (uint32_t i = 0; i <= s->nshards; i++)
        sp_seal(s, &s->shards[i], (int32_t)i);
}

void sp_splitter_flush_shard(sp_splitter *s, uint32_t shard) { sp_seal(s, &s->shards[shard], (int32_t)shard); }

void sp_splitter_finish(sp_splitter *s)
{
    if (!s->failed && !s->finished) {
        s->finished = 1;
        if (s->opt.format == SP_BINARY)
            sp_binary_finish(s);
        else
            sp_lines_finish(s);
    }
    sp_splitter_flush(s);
}

const sp_error *sp_splitter_error(const sp_splitter *s) { return &s->error; }
const sp_value *sp_splitter_values(const sp_splitter *s) { return s->values; }
int sp_splitter_newline(const sp_splitter *s) { return s->eol; }

size_t sp_splitter_marks(sp_splitter *s, uint32_t shard, const sp_mark **marks)
{
    const sp_buf *buf = &s->shards[shard].marks;
    *marks = (const sp_mark *)(const void *)buf->data;
    return buf->len / sizeof **marks;
}

void sp_splitter_forget_marks(sp_splitter *s, uint32_t shard) { s->shards[shard].marks.len = 0; }

int32_t sp_splitter_streaming(const sp_splitter *s) { return s->released ? s->stream_shard : SP_NOT_STREAMING; }
uint64_t sp_splitter_rows(const sp_splitter *s) { return s->rows; }
uint64_t sp_splitter_lines(const sp_splitter *s) { return s->lines; }
uint64_t sp_splitter_offset(const sp_splitter *s) { return s->offset; }

int sp_splitter_pending(const sp_splitter *s)
{
    for (uint32_t i = 0; i <= s->nshards; i++)
        if (s->shards[i].base)
            return 1;
    return s->everywhere.base != NULL;
}

uint64_t sp_splitter_rows_of(const sp_splitter *s, uint32_t shard)
{
    return s->constant_shard == SP_EVERYWHERE && shard < s->nshards ? s->rows : s->shards[shard].rows;
}

uint64_t sp_splitter_poison_of(const sp_splitter *s, uint32_t shard) { return s->shards[shard].poison; }

size_t sp_splitter_poison(const sp_splitter *s, int32_t *shards, uint64_t *lines)
{
    for (size_t i = 0; i < s->npoison; i++) {
        shards[i] = s->poison_shard[i];
        lines[i] = s->poison_line[i];
    }
    return s->npoison;
}

int sp_splitter_client_line(const sp_splitter *s, uint32_t shard, uint64_t line, uint64_t *client)
{
    const sp_linemap *map = &s->shards[shard].map;
    if (s->constant_shard == SP_EVERYWHERE && shard < s->nshards) {
        *client = line;
        return 1;
    }
    if (line > map->shard_line && s->failed && s->stream_shard == (int32_t)shard) { /* in the row that is refused */
        *client = s->lines + (line - map->shard_line);
        return 1;
    }
    if (line == map->shard_line + 1 && s->finished) { /* found at the end of the data */
        *client = s->lines + 1;
        return 1;
    }
    return sp_linemap_find(map, line, client);
}

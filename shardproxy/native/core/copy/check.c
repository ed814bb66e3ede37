/* One row after the other; see check.h. */
#include "check.h"

#include "network_order.h"
#include "split.h"

struct sp_checker {
    sp_splitter *s; /* for sp_scan, which sets rows aside that end in the wrong way */
    int32_t fields;
    int utf8;
};

static uint8_t *no_buffer(void *context, size_t size, void **handle)
{
    (void)context;
    (void)size;
    (void)handle;
    return NULL;
}
static int no_seal(void *context, int32_t shard, void *handle, size_t used, size_t size)
{
    (void)context;
    (void)shard;
    (void)handle;
    (void)used;
    (void)size;
    return 1;
}
static void no_drop(void *context, void *handle)
{
    (void)context;
    (void)handle;
}

sp_checker *sp_checker_new(const sp_options *options, int32_t fields, int utf8, int newline)
{
    sp_checker *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    const sp_sink sink = {NULL, no_buffer, no_seal, no_drop};
    sp_options o = *options;
    c->fields = fields;
    c->utf8 = utf8;
    o.set_aside = 1;
    o.header = 0;
    c->s = sp_splitter_new(&o, &sink);
    if (!c->s) {
        free(c);
        return NULL;
    }
    c->s->eol = newline;
    return c;
}

void sp_checker_free(sp_checker *c)
{
    if (c)
        sp_splitter_free(c->s);
    free(c);
}

/* pg_utf8_islegal() of PostgreSQL's src/common/wchar.c; 0: not legal. */
static size_t legal_utf8(const uint8_t *p, size_t n)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t length;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        length = 2;
    else if ((p[0] & 0xf0) == 0xe0)
        length = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (length > n)
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* The first byte that cannot be in the data; n if there is none. */
static size_t bad_byte(const sp_checker *c, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (p[i] == 0)
            return i;
        size_t length = p[i] < 0x80 || !c->utf8 ? 1 : legal_utf8(p + i, n - i);
        if (!length)
            return i;
        i += length;
    }
    return n;
}

static int32_t count_fields(const sp_splitter *s, const uint8_t *row, size_t len)
{
    int32_t count = 1;
    int marked;
    for (size_t at = 0; (at = sp_field_end(s, row, at, len, &marked)) < len; at++)
        count++;
    return count;
}

static void line_row(sp_checker *c, const uint8_t *p, size_t n, sp_checked *out)
{
    sp_splitter *s = c->s;
    sp_scanned found;
    s->bad = 0;
    s->row_extra = 0;
    memset(&s->row, 0, sizeof s->row);
    size_t data = n;
    out->end = n;
    switch (sp_scan(s, p, n, 1, 0, &found)) {
    case SP_SCAN_ROW:
        out->end = found.end;
        data = found.data;
        break;
    case SP_SCAN_END: /* rows of a shard have none: it would hide those after it */
        out->fault = SP_ROW_REFUSED;
        out->message = "end-of-copy marker is not alone on its line";
        for (size_t i = 0; i < n; i++) {
            if (p[i] == '\n' || (p[i] == '\r' && !(i + 1 < n && p[i + 1] == '\n'))) {
                out->end = i + 1;
                break;
            }
        }
        data = out->end;
        break;
    default:
        if (s->row.in_quote)
            out->fault = SP_ROW_UNTERMINATED;
    }
    out->lines += 1 + s->row_extra;
    if (s->bad && out->fault == SP_ROW_WELL) {
        out->fault = SP_ROW_REFUSED;
        out->message = s->error.message;
        out->hint = s->error.hint;
    }
    size_t bad = bad_byte(c, p, out->end);
    if (bad < out->end) {
        out->fault = SP_ROW_ENCODING;
        out->at = bad;
    }
    if (out->fault != SP_ROW_WELL)
        return;
    const int32_t fields = count_fields(s, p, data);
    if (fields != c->fields) {
        out->fault = fields < c->fields ? SP_ROW_MISSING : SP_ROW_EXTRA;
        out->at = (uint64_t)fields;
    }
}

static void binary_row(const sp_checker *c, const uint8_t *p, size_t n, sp_checked *out)
{
    size_t at = 2;
    out->end = n;
    out->lines++;
    if (n < 2)
        return;
    const int32_t fields = sp_signed16(sp_load_be16(p));
    for (int32_t i = 0; i < fields; i++) {
        if (n - at < 4)
            return;
        const uint32_t size = sp_load_be32(p + at);
        at += 4;
        if (size == 0xffffffffu)
            continue;
        if (size > n - at)
            return;
        at += size;
    }
    out->end = at;
    if (fields != c->fields) {
        out->fault = fields < c->fields ? SP_ROW_MISSING : SP_ROW_EXTRA;
        out->at = (uint64_t)fields;
    }
}

void sp_check_row(sp_checker *c, const uint8_t *data, size_t n, size_t start, uint64_t previous, sp_checked *out)
{
    memset(out, 0, sizeof *out);
    out->lines = previous;
    if (c->s->opt.format == SP_BINARY)
        binary_row(c, data + start, n - start, out);
    else
        line_row(c, data + start, n - start, out);
    out->end += start;
    if (out->fault == SP_ROW_ENCODING)
        out->at += start;
}

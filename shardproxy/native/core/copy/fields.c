/* The key columns' values of a text or CSV row: CopyReadAttributesText() and CopyReadAttributesCSV(). */
#include "split.h"

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int put_literal(sp_splitter *s, uint8_t *out, size_t *at, uint8_t c)
{
    if (c < 0x80 || !s->opt.transcode) {
        out[(*at)++] = c;
        return 0;
    }
    size_t length = s->transcode.length[c - 0x80];
    if (!length)
        return sp_set_aside(s, "0A000", "a key with this character cannot be converted to the servers' encoding",
                       "Set client_encoding to the servers' encoding.", s->lines + 1 + s->row_extra);
    memcpy(out + *at, s->transcode.bytes[c - 0x80], length);
    *at += length;
    return 0;
}

static int unescape_text(sp_splitter *s, const uint8_t *p, size_t n, uint8_t *out, size_t *used)
{
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        uint8_t c = p[i++];
        int value;
        if (c != '\\') {
            if (put_literal(s, out, &at, c))
                return -1;
            continue;
        }
        if (i == n) /* the last byte of the stream: dropped */
            break;
        c = p[i++];
        switch (c) {
        case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7':
            value = c - '0';
            for (int more = 0; more < 2 && i < n && p[i] >= '0' && p[i] <= '7'; more++)
                value = value * 8 + (p[i++] - '0');
            out[at++] = (uint8_t)value;
            break;
        case 'x':
            if (i < n && hex(p[i]) >= 0) {
                value = hex(p[i++]);
                if (i < n && hex(p[i]) >= 0)
                    value = value * 16 + hex(p[i++]);
                out[at++] = (uint8_t)value;
            } else {
                out[at++] = c;
            }
            break;
        case 'b': out[at++] = '\b'; break;
        case 'f': out[at++] = '\f'; break;
        case 'n': out[at++] = '\n'; break;
        case 'r': out[at++] = '\r'; break;
        case 't': out[at++] = '\t'; break;
        case 'v': out[at++] = '\v'; break;
        default:
            if (put_literal(s, out, &at, c))
                return -1;
        }
    }
    *used = at;
    return 0;
}

static int unescape_csv(sp_splitter *s, const uint8_t *p, size_t n, uint8_t *out, size_t *used)
{
    const uint8_t quote = s->opt.quote, escape = s->opt.escape;
    size_t at = 0;
    int in_quote = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (in_quote && c == escape && i + 1 < n && (p[i + 1] == escape || p[i + 1] == quote)) {
            c = p[++i];
        } else if (c == quote) {
            in_quote = !in_quote;
            continue;
        }
        if (put_literal(s, out, &at, c))
            return -1;
    }
    *used = at;
    return 0;
}

static int same(const sp_bytes *marker, const uint8_t *p, size_t n)
{
    return n == marker->len && (n == 0 || memcmp(p, marker->data, n) == 0);
}

static void set_value(sp_value *v, const uint8_t *data, size_t len)
{
    v->data = data;
    v->len = len;
    v->is_null = 0;
}

static void set_null(sp_value *v)
{
    v->data = NULL;
    v->len = 0;
    v->is_null = 1;
}

static int has_high_byte(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] & 0x80)
            return 1;
    return 0;
}

static int use_default(sp_splitter *s, const sp_key *key, sp_value *v)
{
    if (key->default_value.kind == SP_ABSENT)
        return sp_set_aside(s, "0A000", "the default of a key column is not a constant known here",
                       "Give the key's value in each row.", s->lines + 1 + s->row_extra);
    if (key->default_value.kind == SP_NULL)
        set_null(v);
    else
        set_value(v, key->default_value.value.data, key->default_value.value.len);
    return 0;
}

/* The value of keys[k] from its raw field; marked: the field contains a quote (CSV) or a backslash (text). */
int sp_key_value(sp_splitter *s, size_t k, const uint8_t *field, size_t len, int marked)
{
    const sp_key *key = &s->keys[k];
    sp_value *v = &s->values[s->key_index[k]];
    const int csv = s->opt.format == SP_CSV;
    size_t raw = len;
    if (marked && !csv) { /* a backslash that ends the stream is not part of what NULL is compared with */
        size_t run = 0;
        while (run < len && field[len - 1 - run] == '\\')
            run++;
        raw -= run & 1;
    }
    if (!(csv && marked) && same(&s->opt.null_marker, field, raw)) {
        if (csv && key->force_not_null)
            set_value(v, s->opt.null_marker.data, s->opt.null_marker.len);
        else
            set_null(v);
        return 0;
    }
    if (s->opt.has_default_marker && same(&s->opt.default_marker, field, raw))
        return use_default(s, key, v);
    if (!marked && !(s->opt.transcode && has_high_byte(field, len))) {
        set_value(v, field, len);
        return 0;
    }
    sp_buf *scratch = &s->scratch[s->key_index[k]];
    size_t used = 0;
    scratch->len = 0;
    if (sp_buf_reserve(scratch, s->opt.transcode ? len * 4 + 1 : len + 1))
        return sp_fail_memory(s);
    if (csv ? unescape_csv(s, field, len, scratch->data, &used) : unescape_text(s, field, len, scratch->data, &used))
        return -1;
    set_value(v, scratch->data, used);
    if (csv && key->force_null && same(&s->opt.null_marker, v->data, v->len))
        set_null(v);
    return 0;
}

/* The end of the field that begins at `at`; *marked as above. len when no delimiter follows. */
size_t sp_field_end(const sp_splitter *s, const uint8_t *row, size_t at, size_t len, int *marked)
{
    const uint8_t delimiter = s->opt.delimiter, quote = s->opt.quote, escape = s->opt.escape;
    *marked = 0;
    if (s->opt.format == SP_TEXT) {
        for (; at < len && row[at] != delimiter; at++) {
            if (row[at] == '\\') {
                *marked = 1;
                at++;
            }
        }
        return at < len ? at : len;
    }
    for (int in_quote = 0; at < len; at++) {
        uint8_t c = row[at];
        if (in_quote && c == escape && at + 1 < len && (row[at + 1] == escape || row[at + 1] == quote)) {
            at++;
        } else if (c == quote) {
            *marked = 1;
            in_quote = !in_quote;
        } else if (c == delimiter && !in_quote) {
            return at;
        }
    }
    return len;
}

/* All key values of a row without its newline; whole = 0: of a row's beginning, SP_FIELDS_MORE if it is too short. */
int sp_extract(sp_splitter *s, const uint8_t *row, size_t len, int whole)
{
    size_t at = 0;
    int32_t field = 0;
    for (size_t k = 0; k < s->nkeys;) {
        int marked;
        size_t end = sp_field_end(s, row, at, len, &marked);
        if (end == len && !whole)
            return SP_FIELDS_MORE;
        for (; k < s->nkeys && s->keys[k].field == field; k++)
            if (sp_key_value(s, k, row + at, end - at, marked))
                return SP_FIELDS_ERROR;
        if (end == len)
            return k < s->nkeys ? SP_FIELDS_MISSING : SP_FIELDS_OK;
        at = end + 1;
        field++;
    }
    return SP_FIELDS_OK;
}

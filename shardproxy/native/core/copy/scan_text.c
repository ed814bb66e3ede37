/* Where a text row ends, byte by byte: CopyReadLineText() of PostgreSQL's copyfromparse.c. */
#include "split.h"

static int bad(sp_splitter *s, const char *message, const char *hint)
{
    return sp_set_aside(s, "22P04", message, hint, s->lines + 1);
}

static int bad_carriage_return(sp_splitter *s)
{
    return bad(s, "literal carriage return found in data", "Use \"\\r\" to represent carriage return.");
}

/* Of an end marker. IS_DATA: it is set aside with its row. */
enum { IS_DATA = -1 };
static int bad_marker(sp_splitter *s, const char *message) { return bad(s, message, NULL) ? SP_SCAN_ERROR : IS_DATA; }

static int more(size_t at, sp_scanned *out)
{
    out->end = at;
    return SP_SCAN_MORE;
}

static int row(size_t data, size_t newline, sp_scanned *out)
{
    out->data = data;
    out->end = data + newline;
    return SP_SCAN_ROW;
}

/* `\.` at p[i]; after the end of the data PostgreSQL's buffer holds a zero byte. */
static int marker(sp_splitter *s, const uint8_t *p, size_t i, size_t n, int eof, int started, sp_scanned *out)
{
    const char *corrupt = s->opt.server_version < 18 ? "end-of-copy marker corrupt"
                                                     : "end-of-copy marker is not alone on its line";
    const char *mismatch = "end-of-copy marker does not match previous newline style";
    size_t k = i + 2;
    uint8_t c;
    if (s->eol == SP_EOL_CRNL) {
        if (k >= n && !eof)
            return more(i, out);
        c = k < n ? p[k] : 0;
        k++;
        if (c == '\n')
            return bad_marker(s, mismatch);
        if (c != '\r')
            return bad_marker(s, corrupt);
    }
    if (k >= n && !eof)
        return more(i, out);
    c = k < n ? p[k] : 0;
    if (c != '\r' && c != '\n')
        return bad_marker(s, corrupt);
    if ((s->eol == SP_EOL_CR && c != '\r') || ((s->eol == SP_EOL_NL || s->eol == SP_EOL_CRNL) && c != '\n'))
        return bad_marker(s, mismatch);
    if (s->opt.server_version >= 18 && (started || i > 0))
        return bad_marker(s, corrupt);
    out->data = i;
    return SP_SCAN_END;
}

int sp_scan_text(sp_splitter *s, const uint8_t *p, size_t n, int eof, int started, sp_scanned *out)
{
    size_t i = 0;
    if (s->row.pending_escape && n) {
        s->row.pending_escape = 0;
        i = 1;
    }
    while (i < n) {
        uint8_t c = p[i];
        out->end = i; /* for an error */
        if (c == '\r') {
            if (s->eol == SP_EOL_NL) {
                if (bad_carriage_return(s))
                    return SP_SCAN_ERROR;
                i++; /* up to the newline it is one bad row */
                continue;
            }
            if (s->eol != SP_EOL_CR) {
                if (i + 1 >= n && !eof)
                    return more(i, out);
                if (i + 1 < n && p[i + 1] == '\n') {
                    s->eol = SP_EOL_CRNL;
                    return row(i, 2, out);
                }
                if (s->eol == SP_EOL_CRNL) {
                    if (bad_carriage_return(s))
                        return SP_SCAN_ERROR;
                    i++;
                    continue;
                }
                s->eol = SP_EOL_CR;
            }
            return row(i, 1, out);
        }
        if (c == '\n') {
            if (s->eol != SP_EOL_CR && s->eol != SP_EOL_CRNL)
                s->eol = SP_EOL_NL;
            else if (bad(s, "literal newline found in data", "Use \"\\n\" to represent newline."))
                return SP_SCAN_ERROR;
            return row(i, 1, out);
        }
        if (c == '\\') {
            if (i + 1 >= n)
                return more(eof ? n : i, out); /* the last byte of all: data */
            if (p[i + 1] == '.') {
                int found = marker(s, p, i, n, eof, started, out);
                if (found != IS_DATA)
                    return found;
            }
            i++;
        }
        i++;
    }
    return more(n, out);
}

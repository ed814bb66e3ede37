/* Where a text row ends, byte by byte: CopyReadLineText() of PostgreSQL's copyfromparse.c. */
#include "split.h"

static int bad(sp_splitter *s, const char *message, const char *hint)
{
    sp_fail(s, "22P04", message, hint, s->lines + 1);
    return SP_SCAN_ERROR;
}

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
            return bad(s, mismatch, NULL);
        if (c != '\r')
            return bad(s, corrupt, NULL);
    }
    if (k >= n && !eof)
        return more(i, out);
    c = k < n ? p[k] : 0;
    if (c != '\r' && c != '\n')
        return bad(s, corrupt, NULL);
    if ((s->eol == SP_EOL_CR && c != '\r') || ((s->eol == SP_EOL_NL || s->eol == SP_EOL_CRNL) && c != '\n'))
        return bad(s, mismatch, NULL);
    if (s->opt.server_version >= 18 && (started || i > 0))
        return bad(s, corrupt, NULL);
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
            if (s->eol == SP_EOL_NL)
                return bad(s, "literal carriage return found in data", "Use \"\\r\" to represent carriage return.");
            if (s->eol != SP_EOL_CR) {
                if (i + 1 >= n && !eof)
                    return more(i, out);
                if (i + 1 < n && p[i + 1] == '\n') {
                    s->eol = SP_EOL_CRNL;
                    return row(i, 2, out);
                }
                if (s->eol == SP_EOL_CRNL)
                    return bad(s, "literal carriage return found in data",
                               "Use \"\\r\" to represent carriage return.");
                s->eol = SP_EOL_CR;
            }
            return row(i, 1, out);
        }
        if (c == '\n') {
            if (s->eol == SP_EOL_CR || s->eol == SP_EOL_CRNL)
                return bad(s, "literal newline found in data", "Use \"\\n\" to represent newline.");
            s->eol = SP_EOL_NL;
            return row(i, 1, out);
        }
        if (c == '\\') {
            if (i + 1 >= n)
                return more(eof ? n : i, out); /* the last byte of all: data */
            if (p[i + 1] == '.')
                return marker(s, p, i, n, eof, started, out);
            i++;
        }
        i++;
    }
    return more(n, out);
}

#include "split.h"

#include <stdio.h>

int sp_fail(sp_splitter *s, const char *sqlstate, const char *message, const char *hint, uint64_t line)
{
    if (!s->failed) {
        s->failed = 1;
        memcpy(s->error.sqlstate, sqlstate, 6);
        s->error.message = message;
        s->error.hint = hint;
        s->error.line = line;
    }
    return -1;
}

int sp_set_aside(sp_splitter *s, const char *sqlstate, const char *message, const char *hint, uint64_t line)
{
    if (s->opt.set_aside) {
        s->bad = 1;
        s->error.message = message;
        s->error.hint = hint;
        return 0;
    }
    return sp_fail(s, sqlstate, message, hint, line);
}

int sp_fail_memory(sp_splitter *s)
{
    return sp_fail(s, "53200", "out of memory", NULL, s->lines + 1);
}

/* enlargeStringInfo() of src/common/stringinfo.c, which reads the line in PostgreSQL. */
int sp_fail_row_too_long(sp_splitter *s, size_t have, size_t more)
{
    if (!s->failed)
        snprintf(s->error.detail, sizeof s->error.detail,
                 "Cannot enlarge string buffer containing %zu bytes by %zu more bytes.", have, more);
    return sp_fail(s, "54000",
                   s->opt.server_version >= 18 ? "string buffer exceeds maximum allowed length (1073741823 bytes)"
                                               : "out of memory",
                   NULL, s->lines + 1 + s->row_extra);
}

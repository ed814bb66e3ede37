/*
 * Whole rows, as sp_splitter has put them together for one shard, looked at one by one: where each ends, and what a
 * server would certainly refuse before it reads a value. Only done with rows of which a shard has refused one.
 */
#ifndef SP_CHECK_H
#define SP_CHECK_H

#include "splitter.h"

/* What is wrong with a row; the first in the order in which PostgreSQL looks. */
enum {
    SP_ROW_WELL = 0,
    SP_ROW_ENCODING,     /* a zero byte, or not UTF8; `at` is the byte's offset in the data */
    SP_ROW_UNTERMINATED, /* a quote that is still open at the end */
    SP_ROW_REFUSED,      /* where it ends, as `message` and `hint` say */
    SP_ROW_MISSING,      /* too few fields; `at` is their number */
    SP_ROW_EXTRA,        /* too many; `at` is their number in binary */
};

typedef struct {
    uint64_t end;   /* offset after its last byte */
    uint64_t lines; /* lines of the data up to its end, as a server counts them */
    uint64_t at;
    uint32_t fault;
    const char *message, *hint;
} sp_checked;

typedef struct sp_checker sp_checker;

/*
 * Only the format, the delimiter, the quote, the escape and the version of the options matter. The newline is that of
 * a splitter, or else the first row's. NULL: no memory.
 */
sp_checker *sp_checker_new(const sp_options *options, int32_t fields, int utf8, int newline);
void sp_checker_free(sp_checker *c);

/* The row that begins at `start`, which is before `n`; `previous` is 0 or the lines before it. */
void sp_check_row(sp_checker *c, const uint8_t *data, size_t n, size_t start, uint64_t previous, sp_checked *out);

#endif

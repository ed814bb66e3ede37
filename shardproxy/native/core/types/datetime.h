/* What datetime.c, time.c and interval.c read and write by. Times are in microseconds. */
#ifndef SP_DATETIME_H
#define SP_DATETIME_H

#include "read.h"

#define USECS_PER_SEC INT64_C(1000000)
#define USECS_PER_DAY (INT64_C(86400) * USECS_PER_SEC)

/* MAXDATELEN: a longer spelling is not parsed by PostgreSQL either. */
#define SP_LONGEST_MOMENT 128

typedef struct {
    int64_t days;      /* since 2000-01-01 */
    int64_t usecs;     /* of the day, up to and including 24:00:00 */
    int32_t offset;    /* seconds east of UTC */
    int has_offset;
    int special;       /* one of the words */
} sp_moment;

typedef struct {
    const uint8_t *p, *end;
} sp_cursor;

static inline int sp_at_digit(const sp_cursor *c)
{
    return c->p < c->end && sp_is_digit(*c->p);
}

static inline int sp_take(sp_cursor *c, uint8_t ch)
{
    if (c->p == c->end || *c->p != ch)
        return 0;
    c->p++;
    return 1;
}

/* How many digits were read, at most `most` (9); more digits than that make it -1. */
static inline int sp_take_number(sp_cursor *c, int most, int32_t *out)
{
    int n = 0;
    *out = 0;
    while (sp_at_digit(c)) {
        if (++n > most)
            return -1;
        *out = *out * 10 + (*c->p++ - '0');
    }
    return n;
}

static inline size_t sp_skip_space(sp_cursor *c)
{
    const uint8_t *start = c->p;
    while (c->p < c->end && sp_is_space(*c->p))
        c->p++;
    return (size_t)(c->p - start);
}

/* hh:mm[:ss[.fraction]]; 24:00:00 and second 60 are allowed as long as the whole is not over a day. */
int32_t sp_take_time(sp_cursor *c, sp_moment *m);
/* Z, +hh, +hhmm, +hh:mm, +hh:mm:ss; up to 15:59:59, below MAX_TZDISP_HOUR + 1. The first byte is Z, z, + or -. */
int32_t sp_take_offset(sp_cursor *c, sp_moment *m);
/* The digits after a second's point, rounded to microseconds as PostgreSQL rounds them. */
int32_t sp_take_fraction(sp_cursor *c, int64_t *usecs);
/* hh:mm:ss[.ffffff] without trailing zeros; hours may have more digits. */
void sp_put_time(sp_writer *w, uint64_t usecs);
/* AdjustTimestampForTypmod: to the declared number of decimals (-1: all), halves away from zero. */
int64_t sp_adjust_usecs(int64_t t, int32_t decimals);

#endif

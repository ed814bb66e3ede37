/*
 * interval: the spellings that mean the same under every IntervalStyle, in which a leading minus may count for all
 * fields. Follows src/backend/utils/adt/datetime.c (DecodeInterval, DecodeISO8601Interval) and timestamp.c.
 *
 * Read are `1 year 2 mons -3 days +04:05:06.789` with its words' singulars and plurals, `@ ... ago`, and ISO 8601's
 * P1Y2M3DT4H5M6.789S; each unit once, fractions in seconds only. All else, and what leaves a field's range, is
 * SP_UNSUPPORTED.
 */
#include "datetime.h"

#define LONGEST 128
#define FULL_RANGE 0x7FFF /* INTERVAL_FULL_RANGE */

enum { YEAR = 1, MONTH = 2, WEEK = 4, DAY = 8, HOUR = 16, MINUTE = 32, SECOND = 64 };

typedef struct {
    int64_t months, days, usecs;
    int seen;    /* units, as bits */
    int fields;  /* numbers and times */
    int leading; /* the first one has a minus */
    int signs;   /* on the others */
} span;

static int32_t add(int64_t *sum, int64_t value, int64_t factor)
{
    int64_t product;
    if (__builtin_mul_overflow(value, factor, &product) || __builtin_add_overflow(*sum, product, sum))
        return SP_UNSUPPORTED;
    return SP_OK;
}

/* The same for fields that are an int at every step in PostgreSQL. */
static int32_t add_int(int64_t *sum, int64_t value, int64_t factor)
{
    int64_t product = 0;
    if (add(&product, value, factor) != SP_OK || product != (int32_t)product || add(sum, product, 1) != SP_OK)
        return SP_UNSUPPORTED;
    return *sum == (int32_t)*sum ? SP_OK : SP_UNSUPPORTED;
}

static int32_t add_unit(span *v, int unit, int64_t value, int64_t fraction)
{
    if (v->seen & unit || (fraction != 0 && unit != SECOND))
        return SP_UNSUPPORTED;
    v->seen |= unit;
    switch (unit) {
    case YEAR:
        return add_int(&v->months, value, 12);
    case MONTH:
        return add_int(&v->months, value, 1);
    case WEEK:
        return add_int(&v->days, value, 7);
    case DAY:
        return add_int(&v->days, value, 1);
    case HOUR:
        return add(&v->usecs, value, 3600 * USECS_PER_SEC);
    case MINUTE:
        return add(&v->usecs, value, 60 * USECS_PER_SEC);
    default:
        return add(&v->usecs, value, USECS_PER_SEC) != SP_OK ? SP_UNSUPPORTED : add(&v->usecs, fraction, 1);
    }
}

/* Up to ten digits, as hours have; -1 for anything else. */
static int64_t take_whole(sp_cursor *c)
{
    const uint8_t *start = c->p;
    int64_t value = 0;
    while (sp_at_digit(c) && c->p - start < 10)
        value = value * 10 + (*c->p++ - '0');
    return c->p == start || sp_at_digit(c) ? -1 : value;
}

/* -1 or 1, and the sign is noted. */
static int take_sign(sp_cursor *c, span *v)
{
    int minus = c->p < c->end && *c->p == '-', sign = minus || (c->p < c->end && *c->p == '+');
    c->p += sign;
    if (v->fields++ == 0)
        v->leading = minus;
    else
        v->signs |= sign;
    return minus ? -1 : 1;
}

/* Up to six digits after a point are exact in all of PostgreSQL's ways to read them. */
static int32_t take_six(sp_cursor *c, int64_t *usecs)
{
    const uint8_t *start = c->p;
    *usecs = 0;
    for (int i = 0; i < 6; i++)
        *usecs = *usecs * 10 + (sp_at_digit(c) ? *c->p++ - '0' : 0);
    return c->p == start || sp_at_digit(c) ? SP_UNSUPPORTED : SP_OK;
}

/* mm[:ss[.ffffff]] after the hours. */
static int32_t take_clock(sp_cursor *c, span *v, int sign, int64_t hours)
{
    int32_t minute, second = 0;
    int64_t fraction = 0;
    if (sp_take_number(c, 2, &minute) < 1)
        return SP_UNSUPPORTED;
    if (sp_take(c, ':')) {
        if (sp_take_number(c, 2, &second) < 1)
            return SP_UNSUPPORTED;
        if (sp_take(c, '.') && sp_take_fraction(c, &fraction) != SP_OK)
            return SP_UNSUPPORTED;
    }
    if (minute > 59 || second > 59 || add_unit(v, HOUR, sign * hours, 0) != SP_OK ||
        add_unit(v, MINUTE, sign * minute, 0) != SP_OK)
        return SP_UNSUPPORTED;
    return add_unit(v, SECOND, sign * second, sign * fraction);
}

static int unit_of(const uint8_t *p, size_t len)
{
    static const struct {
        const char *word;
        int unit;
    } units[] = {{"year", YEAR},     {"mon", MONTH},     {"month", MONTH}, {"week", WEEK},     {"day", DAY},
                 {"hour", HOUR},     {"min", MINUTE},    {"minute", MINUTE}, {"sec", SECOND}, {"second", SECOND}};
    size_t singular = len > 1 && sp_lower(p[len - 1]) == 's' ? len - 1 : len;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (sp_is_word(p, singular, units[i].word))
            return units[i].unit;
    return 0;
}

static size_t take_word(sp_cursor *c)
{
    const uint8_t *start = c->p;
    while (c->p < c->end && sp_lower(*c->p) >= 'a' && sp_lower(*c->p) <= 'z')
        c->p++;
    return (size_t)(c->p - start);
}

static int32_t negate(span *v)
{
    int64_t usecs = 0;
    int32_t status = add(&usecs, v->usecs, -1);
    v->usecs = usecs;
    v->months = -v->months;
    v->days = -v->days;
    return status;
}

/* Numbers with their units, a time, and perhaps "ago". */
static int32_t read_words(const sp_settings *s, sp_cursor *c, span *v)
{
    if (sp_take(c, '@'))
        sp_skip_space(c);
    while (c->p < c->end) {
        const uint8_t *start = c->p;
        if (v->fields != 0 && take_word(c) != 0) {
            if (c->p != c->end || !sp_is_word(start, (size_t)(c->p - start), "ago") || negate(v) != SP_OK)
                return SP_UNSUPPORTED;
            break;
        }
        int sign = take_sign(c, v);
        int64_t whole = take_whole(c), fraction = 0;
        if (whole < 0)
            return SP_UNSUPPORTED;
        if (sp_take(c, ':')) {
            if (whole > 999999999 && s->server_version < 15) /* an int there */
                return SP_UNSUPPORTED;
            if (take_clock(c, v, sign, whole) != SP_OK)
                return SP_UNSUPPORTED;
        } else {
            if (sp_take(c, '.') && take_six(c, &fraction) != SP_OK)
                return SP_UNSUPPORTED;
            if (sp_skip_space(c) == 0)
                return SP_UNSUPPORTED;
            start = c->p;
            int unit = unit_of(start, take_word(c));
            if (unit == 0 || add_unit(v, unit, sign * whole, sign * fraction) != SP_OK)
                return SP_UNSUPPORTED;
        }
        if (sp_skip_space(c) == 0 && c->p != c->end)
            return SP_UNSUPPORTED;
    }
    return v->fields == 0 || (v->leading && v->fields > 1 && !v->signs) ? SP_UNSUPPORTED : SP_OK;
}

/* What follows P. */
static int32_t read_iso(sp_cursor *c, span *v)
{
    static const char date[] = "YMWD", time[] = "HMS";
    static const int date_units[] = {YEAR, MONTH, WEEK, DAY}, time_units[] = {HOUR, MINUTE, SECOND};
    int in_time = 0;
    do {
        if (!in_time && sp_take(c, 'T'))
            in_time = 1;
        if (c->p < c->end && *c->p == '+') /* only a minus is a sign here */
            return SP_UNSUPPORTED;
        int sign = take_sign(c, v);
        int64_t whole = take_whole(c), fraction = 0;
        if (whole < 0 || whole > 999999999 || (sp_take(c, '.') && take_six(c, &fraction) != SP_OK) || c->p == c->end)
            return SP_UNSUPPORTED;
        const char *letters = in_time ? time : date, *found = *c->p == 0 ? NULL : strchr(letters, *c->p);
        if (found == NULL)
            return SP_UNSUPPORTED;
        c->p++;
        int unit = (in_time ? time_units : date_units)[found - letters];
        if (add_unit(v, unit, sign * whole, sign * fraction) != SP_OK)
            return SP_UNSUPPORTED;
    } while (c->p < c->end);
    return SP_OK;
}

static int32_t keep(const sp_settings *s, int32_t typmod, int64_t months, int64_t days, int64_t usecs, sp_datum *d)
{
    if (months != (int32_t)months || days != (int32_t)days)
        return SP_UNSUPPORTED;
    if (typmod >= 0 && (typmod >> 16 & FULL_RANGE) != FULL_RANGE) /* such as INTERVAL DAY TO HOUR: it drops fields */
        return SP_UNSUPPORTED;
    d->months = (int32_t)months;
    d->days = (int32_t)days;
    d->integer = usecs;
    /* INTERVAL_IS_NOBEGIN and NOEND, since 17 */
    d->infinite = s->server_version >= 17 && ((months == INT32_MAX && days == INT32_MAX && usecs == INT64_MAX) ||
                                              (months == INT32_MIN && days == INT32_MIN && usecs == INT64_MIN));
    if (d->infinite || typmod < 0)
        return SP_OK;
    int32_t decimals = typmod & 0xFFFF;
    if (usecs > INT64_MAX - USECS_PER_SEC || usecs < INT64_MIN + USECS_PER_SEC)
        return decimals > 5 ? SP_OK : SP_UNSUPPORTED;
    d->integer = sp_adjust_usecs(usecs, decimals);
    return SP_OK;
}

int32_t sp_read_interval(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    span v = {0};
    size_t whole_len = len;
    sp_trim(&p, &len);
    if (len == 0 || len > LONGEST)
        return SP_UNSUPPORTED;
    size_t sign = *p == '+' || *p == '-';
    if (sp_is_word(p + sign, len - sign, "infinity")) {
        if (s->server_version < 17)
            return SP_UNSUPPORTED;
        return *p == '-' ? keep(s, typmod, INT32_MIN, INT32_MIN, INT64_MIN, d)
                         : keep(s, typmod, INT32_MAX, INT32_MAX, INT64_MAX, d);
    }
    sp_cursor c = {p, p + len};
    int iso = sp_take(&c, 'P'); /* which PostgreSQL reads only without surrounding blanks */
    int32_t status = !iso ? read_words(s, &c, &v) : len == whole_len ? read_iso(&c, &v) : SP_UNSUPPORTED;
    if (status == SP_OK)
        status = keep(s, typmod, v.months, v.days, v.usecs, d);
    return status == SP_OK && d->infinite ? SP_UNSUPPORTED : status; /* the numbers of infinity, which are refused */
}

int32_t sp_receive_interval(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    if (len != 16)
        return SP_INVALID;
    return keep(s, typmod, sp_signed32(sp_load_be32(p + 12)), sp_signed32(sp_load_be32(p + 8)),
                sp_signed64(sp_load_be64(p)), d);
}

/* interval_cmp_value: months of 30 days, days of 24 hours. */
static int64_t whole_days(const sp_datum *d, int64_t *rest)
{
    int64_t of_time = d->integer / USECS_PER_DAY;
    *rest = d->integer % USECS_PER_DAY;
    if (*rest < 0) {
        *rest += USECS_PER_DAY;
        of_time--;
    }
    return (int64_t)d->months * 30 + d->days + of_time;
}

/* interval_hash_extended: of the value's low 64 bits. */
uint64_t sp_hash_interval(const sp_datum *d)
{
    int64_t rest, days = whole_days(d, &rest);
    uint64_t low = (uint64_t)days * (uint64_t)USECS_PER_DAY + (uint64_t)rest;
    return sp_hash_int64(sp_signed64(low), SP_HASH_SEED);
}

size_t sp_canonical_interval(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)cap, (void)out;
    int64_t rest, days = whole_days(d, &rest);
    sp_store_be64(buf, (uint64_t)days ^ UINT64_C(1) << 63);
    sp_store_be64(buf + 8, (uint64_t)rest);
    return 16;
}

/* AddPostgresIntPart: after a negative field even a positive one shows its sign. */
static void put_part(sp_writer *w, int32_t value, const char *unit, int *negative)
{
    if (value == 0)
        return;
    if (w->len != 0)
        sp_put(w, ' ');
    if (*negative && value > 0)
        sp_put(w, '+');
    sp_put_integer(w, value, 1);
    sp_put(w, ' ');
    sp_put_word(w, unit);
    if (value != 1)
        sp_put(w, 's');
    *negative = value < 0;
}

/* EncodeInterval, INTSTYLE_POSTGRES */
size_t sp_write_interval(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    int negative = 0;
    if (d->infinite) {
        sp_put_word(&w, d->integer < 0 ? "-infinity" : "infinity");
        return w.len;
    }
    put_part(&w, d->months / 12, "year", &negative);
    put_part(&w, d->months % 12, "mon", &negative);
    put_part(&w, d->days, "day", &negative);
    if (d->integer == 0 && w.len != 0)
        return w.len;
    if (w.len != 0)
        sp_put(&w, ' ');
    if (d->integer < 0 || negative)
        sp_put(&w, d->integer < 0 ? '-' : '+');
    sp_put_time(&w, d->integer < 0 ? 0 - (uint64_t)d->integer : (uint64_t)d->integer);
    return w.len;
}

/*
 * date, timestamp and timestamptz: the ISO spellings that mean the same under every DateStyle and TimeZone.
 * Whatever else PostgreSQL's parser would take (names of months and zones, 'today', 01/02/2003) is answered with
 * SP_UNSUPPORTED. Follows src/backend/utils/adt/datetime.c, date.c and timestamp.c.
 */
#include "keys.h"

#define USECS_PER_SEC INT64_C(1000000)
#define USECS_PER_DAY (INT64_C(86400) * USECS_PER_SEC)
/* Days from 1970-01-01 and 0000-03-01 (proleptic Gregorian) to 2000-01-01. */
#define DAYS_1970 10957
#define DAYS_MARCH_0000 730425

/* IS_VALID_DATE: from Julian day 0 up to 5874898-06-03; IS_VALID_TIMESTAMP: up to 294277-01-01, both exclusive. */
#define MIN_DATE INT64_C(-2451545)
#define END_DATE INT64_C(2145031949)
#define MIN_TIMESTAMP INT64_C(-211813488000000000)
#define END_TIMESTAMP INT64_C(9223371331200000000)

/* MAXDATELEN: a longer spelling is not parsed by PostgreSQL either. */
#define LONGEST 128

typedef struct {
    int64_t days;      /* since 2000-01-01 */
    int64_t usecs;     /* of the day, up to and including 24:00:00 */
    int32_t offset;    /* seconds east of UTC */
    int has_offset;
    int special;       /* one of the words */
} moment;

enum { ORDINARY, INFINITY_WORD, MINUS_INFINITY_WORD, EPOCH_WORD };

typedef struct {
    const uint8_t *p, *end;
} cursor;

static int at_digit(const cursor *c)
{
    return c->p < c->end && sp_is_digit(*c->p);
}

static int take(cursor *c, uint8_t ch)
{
    if (c->p == c->end || *c->p != ch)
        return 0;
    c->p++;
    return 1;
}

/* How many digits were read, at most `most` (9); more digits than that make it -1. */
static int take_number(cursor *c, int most, int32_t *out)
{
    int n = 0;
    *out = 0;
    while (at_digit(c)) {
        if (++n > most)
            return -1;
        *out = *out * 10 + (*c->p++ - '0');
    }
    return n;
}

static int is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int32_t month_days(int64_t year, int32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days since 2000-01-01; year 0 is 1 BC. Years are counted from March, in eras of 400 years. */
static int64_t days_from_civil(int64_t year, int32_t month, int32_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_MARCH_0000;
}

/*
 * ParseFractionalSecond: rint(strtod(".ddd") * 1e6). Up to 15 significant digits the double is what dividing two
 * exact doubles gives; beyond, only a fraction right at the half could round otherwise.
 */
static int32_t take_fraction(cursor *c, int64_t *usecs)
{
    const uint8_t *start = c->p;
    while (at_digit(c))
        c->p++;
    size_t n = (size_t)(c->p - start);
    if (n == 0)
        return SP_UNSUPPORTED; /* "10:00:00." is read from 15 on */
    int64_t whole = 0;
    for (size_t i = 0; i < 6; i++)
        whole = whole * 10 + (i < n ? start[i] - '0' : 0);
    if (n > 6) {
        if (n > 15) {
            static const char high[] = "49999999", low[] = "50000000";
            if (memcmp(start + 6, high, 8) == 0 || memcmp(start + 6, low, 8) == 0)
                return SP_UNSUPPORTED;
            whole += start[6] >= '5';
        } else {
            double digits = 0, scale = 1;
            for (size_t i = 0; i < n; i++) {
                digits = digits * 10 + (start[i] - '0');
                scale *= 10;
            }
            volatile double scaled = digits / scale * 1e6; /* volatile: no fused or extended step may sharpen it */
            double rest = scaled - (double)(int64_t)scaled;
            whole = (int64_t)scaled;
            if (rest > 0.5 || (rest == 0.5 && whole % 2 != 0)) /* rint: halves go to the even */
                whole++;
        }
    }
    *usecs = whole;
    return SP_OK;
}

/* hh:mm[:ss[.fraction]]; 24:00:00 and second 60 are allowed as long as the whole is not over a day. */
static int32_t take_time(cursor *c, moment *m)
{
    int32_t hour, minute, second = 0;
    int64_t fraction = 0;
    int hour_digits = take_number(c, 2, &hour);
    if (hour_digits < 1 || !take(c, ':') || take_number(c, 2, &minute) < 1)
        return SP_UNSUPPORTED;
    if (take(c, ':')) {
        if (take_number(c, 2, &second) < 1)
            return SP_UNSUPPORTED;
        if (take(c, '.')) {
            int32_t status = take_fraction(c, &fraction);
            if (status != SP_OK)
                return status;
        }
    }
    m->usecs = (hour * 3600 + minute * 60 + second) * USECS_PER_SEC + fraction;
    return hour > 24 || minute > 59 || second > 60 || m->usecs > USECS_PER_DAY ? SP_INVALID : SP_OK;
}

/* Z, +hh, +hhmm, +hh:mm, +hh:mm:ss; up to 15:59:59 as MAX_TZDISP_HOUR says. */
static int32_t take_offset(cursor *c, moment *m)
{
    m->has_offset = 1;
    m->offset = 0;
    if (take(c, 'Z') || take(c, 'z'))
        return SP_OK;
    int negative = *c->p++ == '-';
    int32_t hour, minute = 0, second = 0;
    int digits = take_number(c, 4, &hour);
    if (digits == 4) {
        minute = hour % 100;
        hour /= 100;
    } else if (digits != 1 && digits != 2) {
        return SP_UNSUPPORTED;
    } else if (take(c, ':')) {
        if (take_number(c, 2, &minute) != 2)
            return SP_UNSUPPORTED;
        if (take(c, ':') && take_number(c, 2, &second) != 2)
            return SP_UNSUPPORTED;
    }
    if (hour > 15 || minute > 59 || second > 59)
        return SP_INVALID;
    m->offset = (hour * 60 + minute) * 60 + second;
    if (negative)
        m->offset = -m->offset;
    return SP_OK;
}

static size_t skip_space(cursor *c)
{
    const uint8_t *start = c->p;
    while (c->p < c->end && sp_is_space(*c->p))
        c->p++;
    return (size_t)(c->p - start);
}

/*
 * YYYY-MM-DD [time [offset]] [BC|AD]. The grammar is checked to its end before a field out of range is called
 * invalid: what follows might have made it something else.
 */
static int32_t read_moment(const uint8_t *p, size_t len, moment *m)
{
    memset(m, 0, sizeof *m);
    sp_trim(&p, &len);
    if (len > LONGEST)
        return SP_UNSUPPORTED;
    if (sp_is_word(p, len, "infinity"))
        return m->special = INFINITY_WORD, SP_OK;
    if (sp_is_word(p, len, "-infinity"))
        return m->special = MINUS_INFINITY_WORD, SP_OK;
    if (sp_is_word(p, len, "epoch")) {
        m->special = EPOCH_WORD;
        m->days = -DAYS_1970;
        return SP_OK;
    }

    cursor c = {p, p + len};
    int32_t year, month, day, out_of_range = SP_OK;
    /* A year of one or two digits is DateStyle's to place. */
    if (take_number(&c, 7, &year) < 3 || !take(&c, '-') || take_number(&c, 2, &month) < 1 || !take(&c, '-') ||
        take_number(&c, 2, &day) < 1)
        return SP_UNSUPPORTED;

    const uint8_t *behind_date = c.p;
    size_t spaces = skip_space(&c);
    int iso_t = spaces == 0 && (take(&c, 'T') || take(&c, 't'));
    if (iso_t || (spaces != 0 && at_digit(&c))) {
        int32_t status = take_time(&c, m);
        if (status == SP_UNSUPPORTED)
            return status;
        out_of_range = status;
        const uint8_t *behind_time = c.p;
        skip_space(&c);
        if (c.p < c.end && (*c.p == '+' || *c.p == '-' || *c.p == 'Z' || *c.p == 'z')) {
            status = take_offset(&c, m);
            if (status == SP_UNSUPPORTED)
                return status;
            out_of_range = status != SP_OK ? status : out_of_range;
        } else {
            c.p = behind_time;
        }
    } else {
        c.p = behind_date;
    }

    int bc = 0;
    if (skip_space(&c) != 0) {
        size_t left = (size_t)(c.end - c.p);
        bc = sp_is_word(c.p, left, "bc");
        if (bc || sp_is_word(c.p, left, "ad"))
            c.p = c.end;
    }
    if (c.p != c.end)
        return SP_UNSUPPORTED;
    if (year == 0)
        return SP_INVALID;
    int64_t signed_year = bc ? 1 - (int64_t)year : year;
    if (month < 1 || month > 12 || day < 1 || day > month_days(signed_year, month))
        return SP_INVALID;
    m->days = days_from_civil(signed_year, month, day);
    return out_of_range;
}

int32_t sp_read_date(const sp_settings *s, const uint8_t *p, size_t len, int64_t *out)
{
    moment m;
    (void)s;
    int32_t status = read_moment(p, len, &m);
    if (status != SP_OK)
        return status;
    if (m.special == INFINITY_WORD || m.special == MINUS_INFINITY_WORD) {
        *out = m.special == INFINITY_WORD ? INT32_MAX : INT32_MIN;
        return SP_OK;
    }
    *out = m.days;
    return m.days >= MIN_DATE && m.days < END_DATE ? SP_OK : SP_INVALID;
}

/* AdjustTimestampForTypmod: to the declared number of decimals, halves away from zero. */
static int64_t adjust(int64_t t, int32_t typmod)
{
    static const int32_t scales[] = {1000000, 100000, 10000, 1000, 100, 10};
    if (typmod < 0 || typmod > 5 || t == INT64_MAX || t == INT64_MIN)
        return t;
    int64_t scale = scales[typmod], half = scale / 2;
    return t >= 0 ? (t + half) / scale * scale : -((-t + half) / scale * scale);
}

int32_t sp_read_timestamp(const sp_settings *s, const uint8_t *p, size_t len, int with_zone, int32_t typmod,
                          int64_t *out)
{
    moment m;
    int32_t status = read_moment(p, len, &m);
    if (status != SP_OK)
        return status;
    if (m.special == INFINITY_WORD || m.special == MINUS_INFINITY_WORD) {
        *out = m.special == INFINITY_WORD ? INT64_MAX : INT64_MIN;
        return SP_OK;
    }
    if (with_zone && !m.has_offset && m.special != EPOCH_WORD && !s->utc)
        return SP_UNSUPPORTED;
    /* Far outside, the product below would overflow; a day of slack leaves the exact check to the end. */
    if (m.days < MIN_TIMESTAMP / USECS_PER_DAY - 2 || m.days > END_TIMESTAMP / USECS_PER_DAY)
        return SP_INVALID;
    int64_t t = m.days * USECS_PER_DAY + m.usecs;
    if (with_zone)
        t -= m.offset * USECS_PER_SEC;
    if (t < MIN_TIMESTAMP || t >= END_TIMESTAMP)
        return SP_INVALID;
    *out = adjust(t, typmod);
    return SP_OK;
}

int32_t sp_recv_date(const uint8_t *p, size_t len, int64_t *out)
{
    if (len != 4)
        return SP_INVALID;
    *out = sp_signed32(sp_load_be32(p));
    if (*out == INT32_MAX || *out == INT32_MIN)
        return SP_OK;
    return *out >= MIN_DATE && *out < END_DATE ? SP_OK : SP_INVALID;
}

int32_t sp_recv_timestamp(const uint8_t *p, size_t len, int32_t typmod, int64_t *out)
{
    if (len != 8)
        return SP_INVALID;
    int64_t t = sp_signed64(sp_load_be64(p));
    if (t != INT64_MAX && t != INT64_MIN && (t < MIN_TIMESTAMP || t >= END_TIMESTAMP))
        return SP_INVALID;
    *out = adjust(t, typmod);
    return SP_OK;
}

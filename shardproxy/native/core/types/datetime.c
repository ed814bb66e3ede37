/*
 * date, timestamp and timestamptz: the ISO spellings that mean the same under every DateStyle and TimeZone.
 * Whatever else PostgreSQL's parser would take (names of months and zones, 'today', 01/02/2003) is answered with
 * SP_UNSUPPORTED. Follows src/backend/utils/adt/datetime.c, date.c and timestamp.c.
 */
#include "datetime.h"

/* Days from 1970-01-01 and 0000-03-01 (proleptic Gregorian) to 2000-01-01. */
#define DAYS_1970 10957
#define DAYS_MARCH_0000 730425

/* IS_VALID_DATE: from Julian day 0 up to 5874898-06-03; IS_VALID_TIMESTAMP: up to 294277-01-01, both exclusive. */
#define MIN_DATE INT64_C(-2451545)
#define END_DATE INT64_C(2145031949)
#define MIN_TIMESTAMP INT64_C(-211813488000000000)
#define END_TIMESTAMP INT64_C(9223371331200000000)

enum { ORDINARY, INFINITY_WORD, MINUS_INFINITY_WORD, EPOCH_WORD };

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
 * YYYY-MM-DD [time [offset]] [BC|AD]. The grammar is checked to its end before a field out of range is called
 * invalid: what follows might have made it something else.
 */
static int32_t read_moment(const uint8_t *p, size_t len, sp_moment *m)
{
    memset(m, 0, sizeof *m);
    sp_trim(&p, &len);
    if (len > SP_LONGEST_MOMENT)
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

    sp_cursor c = {p, p + len};
    int32_t year, month, day, out_of_range = SP_OK;
    /* A year of one or two digits is DateStyle's to place. */
    if (sp_take_number(&c, 7, &year) < 3 || !sp_take(&c, '-') || sp_take_number(&c, 2, &month) < 1 || !sp_take(&c, '-') ||
        sp_take_number(&c, 2, &day) < 1)
        return SP_UNSUPPORTED;

    const uint8_t *after_date = c.p;
    size_t spaces = sp_skip_space(&c);
    int iso_t = spaces == 0 && (sp_take(&c, 'T') || sp_take(&c, 't'));
    if (iso_t || (spaces != 0 && sp_at_digit(&c))) {
        int32_t status = sp_take_time(&c, m);
        if (status == SP_UNSUPPORTED)
            return status;
        out_of_range = status;
        const uint8_t *after_time = c.p;
        sp_skip_space(&c);
        if (c.p < c.end && (*c.p == '+' || *c.p == '-' || *c.p == 'Z' || *c.p == 'z')) {
            status = sp_take_offset(&c, m);
            if (status == SP_UNSUPPORTED)
                return status;
            out_of_range = status != SP_OK ? status : out_of_range;
        } else {
            c.p = after_time;
        }
    } else {
        c.p = after_date;
    }

    int bc = 0;
    if (sp_skip_space(&c) != 0) {
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

int32_t sp_read_date(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_moment m;
    (void)s, (void)typmod;
    int32_t status = read_moment(p, len, &m);
    if (status != SP_OK)
        return status;
    if (m.special == INFINITY_WORD || m.special == MINUS_INFINITY_WORD) {
        d->integer = m.special == INFINITY_WORD ? INT32_MAX : INT32_MIN;
        return SP_OK;
    }
    d->integer = m.days;
    return m.days >= MIN_DATE && m.days < END_DATE ? SP_OK : SP_INVALID;
}

static int64_t adjust(int64_t t, int32_t typmod)
{
    return t == INT64_MAX || t == INT64_MIN ? t : sp_adjust_usecs(t, typmod);
}

static int32_t read_timestamp(const sp_settings *s, int with_zone, int32_t typmod, const uint8_t *p, size_t len,
                              int64_t *out)
{
    sp_moment m;
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

int32_t sp_read_timestamp(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    return read_timestamp(s, 0, typmod, p, len, &d->integer);
}

int32_t sp_read_timestamptz(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    return read_timestamp(s, 1, typmod, p, len, &d->integer);
}

int32_t sp_receive_date(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    if (len != 4)
        return SP_INVALID;
    d->integer = sp_signed32(sp_load_be32(p));
    if (d->integer == INT32_MAX || d->integer == INT32_MIN)
        return SP_OK;
    return d->integer >= MIN_DATE && d->integer < END_DATE ? SP_OK : SP_INVALID;
}

int32_t sp_receive_timestamp(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s;
    if (len != 8)
        return SP_INVALID;
    int64_t t = sp_signed64(sp_load_be64(p));
    if (t != INT64_MAX && t != INT64_MIN && (t < MIN_TIMESTAMP || t >= END_TIMESTAMP))
        return SP_INVALID;
    d->integer = adjust(t, typmod);
    return SP_OK;
}

/* YYYY-MM-DD; whether the year is one before Christ, which is written at the end. */
static int put_date(sp_writer *w, int64_t days)
{
    days += DAYS_MARCH_0000;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t of_400 = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * of_400 + of_400 / 4 - of_400 / 100);
    int64_t from_march = (5 * of_year + 2) / 153;
    int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
    int64_t year = of_400 + era * 400 + (month <= 2);
    sp_put_integer(w, year > 0 ? year : 1 - year, 4);
    sp_put(w, '-');
    sp_put_integer(w, month, 2);
    sp_put(w, '-');
    sp_put_integer(w, of_year - (153 * from_march + 2) / 5 + 1, 2);
    return year <= 0;
}

size_t sp_write_date(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    if (d->integer == INT32_MAX || d->integer == INT32_MIN)
        sp_put_word(&w, d->integer < 0 ? "-infinity" : "infinity");
    else if (put_date(&w, d->integer))
        sp_put_word(&w, " BC");
    return w.len;
}

static size_t write_timestamp(int64_t t, const char *zone, uint8_t *buf, size_t cap)
{
    sp_writer w = {buf, cap, 0};
    if (t == INT64_MAX || t == INT64_MIN) {
        sp_put_word(&w, t < 0 ? "-infinity" : "infinity");
        return w.len;
    }
    int64_t days = t / USECS_PER_DAY - (t % USECS_PER_DAY < 0);
    int before_christ = put_date(&w, days);
    sp_put(&w, ' ');
    sp_put_time(&w, (uint64_t)(t - days * USECS_PER_DAY));
    sp_put_word(&w, zone);
    if (before_christ)
        sp_put_word(&w, " BC");
    return w.len;
}

size_t sp_write_timestamp(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_timestamp(d->integer, "", buf, cap);
}

size_t sp_write_timestamptz(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_timestamp(d->integer, "+00", buf, cap);
}

/*
 * Time of day, and offsets from UTC: time without time zone, and what dates and intervals have of them. Spellings are
 * read as in datetime.c. Follows src/backend/utils/adt/datetime.c and date.c.
 */
#include "datetime.h"

/*
 * ParseFractionalSecond: rint(strtod(".ddd") * 1e6). Up to 15 significant digits the double is what dividing two
 * exact doubles gives; beyond, only a fraction right at the half could round otherwise.
 */
int32_t sp_take_fraction(sp_cursor *c, int64_t *usecs)
{
    const uint8_t *start = c->p;
    while (sp_at_digit(c))
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

int32_t sp_take_time(sp_cursor *c, sp_moment *m)
{
    int32_t hour, minute, second = 0;
    int64_t fraction = 0;
    int hour_digits = sp_take_number(c, 2, &hour);
    if (hour_digits < 1 || !sp_take(c, ':') || sp_take_number(c, 2, &minute) < 1)
        return SP_UNSUPPORTED;
    if (sp_take(c, ':')) {
        if (sp_take_number(c, 2, &second) < 1)
            return SP_UNSUPPORTED;
        if (sp_take(c, '.')) {
            int32_t status = sp_take_fraction(c, &fraction);
            if (status != SP_OK)
                return status;
        }
    }
    m->usecs = (hour * 3600 + minute * 60 + second) * USECS_PER_SEC + fraction;
    return hour > 24 || minute > 59 || second > 60 || m->usecs > USECS_PER_DAY ? SP_INVALID : SP_OK;
}

int32_t sp_take_offset(sp_cursor *c, sp_moment *m)
{
    m->has_offset = 1;
    m->offset = 0;
    if (sp_take(c, 'Z') || sp_take(c, 'z'))
        return SP_OK;
    int negative = *c->p++ == '-';
    int32_t hour, minute = 0, second = 0;
    int digits = sp_take_number(c, 4, &hour);
    if (digits == 4) {
        minute = hour % 100;
        hour /= 100;
    } else if (digits != 1 && digits != 2) {
        return SP_UNSUPPORTED;
    } else if (sp_take(c, ':')) {
        if (sp_take_number(c, 2, &minute) != 2)
            return SP_UNSUPPORTED;
        if (sp_take(c, ':') && sp_take_number(c, 2, &second) != 2)
            return SP_UNSUPPORTED;
    }
    if (hour > 15 || minute > 59 || second > 59)
        return SP_INVALID;
    m->offset = (hour * 60 + minute) * 60 + second;
    if (negative)
        m->offset = -m->offset;
    return SP_OK;
}

int64_t sp_adjust_usecs(int64_t t, int32_t decimals)
{
    static const int32_t scales[] = {1000000, 100000, 10000, 1000, 100, 10};
    if (decimals < 0 || decimals > 5)
        return t;
    int64_t scale = scales[decimals], half = scale / 2;
    return t >= 0 ? (t + half) / scale * scale : -((-t + half) / scale * scale);
}

/* hh:mm[:ss[.ffffff]] and perhaps an offset, which time without time zone reads and ignores. */
int32_t sp_read_time(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_moment m = {0};
    (void)s;
    sp_trim(&p, &len);
    if (len > SP_LONGEST_MOMENT)
        return SP_UNSUPPORTED;
    sp_cursor c = {p, p + len};
    int32_t time = sp_take_time(&c, &m), offset = SP_OK;
    if (time == SP_UNSUPPORTED)
        return time;
    sp_skip_space(&c);
    if (c.p < c.end && (*c.p == '+' || *c.p == '-' || *c.p == 'Z' || *c.p == 'z'))
        offset = sp_take_offset(&c, &m);
    if (c.p != c.end || offset == SP_UNSUPPORTED)
        return SP_UNSUPPORTED;
    d->integer = sp_adjust_usecs(m.usecs, typmod);
    return time != SP_OK ? time : offset;
}

int32_t sp_receive_time(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s;
    if (len != 8)
        return SP_INVALID;
    int64_t t = sp_signed64(sp_load_be64(p));
    if (t < 0 || t > USECS_PER_DAY)
        return SP_INVALID;
    d->integer = sp_adjust_usecs(t, typmod);
    return SP_OK;
}

void sp_put_time(sp_writer *w, uint64_t usecs)
{
    int64_t seconds = (int64_t)(usecs / USECS_PER_SEC), fraction = (int64_t)(usecs % USECS_PER_SEC);
    int digits = 6;
    sp_put_integer(w, seconds / 3600, 2);
    sp_put(w, ':');
    sp_put_integer(w, seconds / 60 % 60, 2);
    sp_put(w, ':');
    sp_put_integer(w, seconds % 60, 2);
    if (fraction == 0)
        return;
    for (; fraction % 10 == 0; fraction /= 10)
        digits--;
    sp_put(w, '.');
    sp_put_integer(w, fraction, digits);
}

size_t sp_write_time(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    sp_put_time(&w, (uint64_t)d->integer);
    return w.len;
}

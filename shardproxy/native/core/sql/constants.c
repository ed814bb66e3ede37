/* The constants of a statement: what they are to the plan, and what stands in their place. */
#include <string.h>

#include "sql/scan.h"

int sp_scan_stands_free(const scan *s, size_t start, size_t end)
{
    const char next = class_at(s, end);
    return !(start && is_word_class(class_of(s->sql[start - 1]))) && !is_word_class(next) && !is_quote_class(next);
}

static int constant_may_stand(const scan *s)
{
    return opens(s->before) && !(s->before == LIST && s->lists) && s->out->nconstants < SP_SHAPE_CONSTANTS;
}

/* Puts `$n` in the place of the bytes from `start` to s->at; its value has been written. */
static void take_out(scan *s, size_t start, uint8_t kind, size_t value_end)
{
    sp_shape *out = s->out;
    uint8_t *text = out->text + out->text_len;
    memcpy(text, s->sql + s->copied, start - s->copied);
    text += start - s->copied;
    s->copied = s->at;
    out->kinds[out->nconstants++] = kind;
    out->starts[out->nconstants] = (uint16_t)value_end;
    *text++ = '$';
    if (out->nconstants >= 100)
        *text++ = (uint8_t)('0' + out->nconstants / 100);
    if (out->nconstants >= 10)
        *text++ = (uint8_t)('0' + out->nconstants / 10 % 10);
    *text++ = (uint8_t)('0' + out->nconstants % 10);
    out->text_len = (size_t)(text - out->text);
}

/* An integer of plain digits at s->at, which may have a sign at `start`. */
int sp_scan_integer(scan *s, size_t start)
{
    const size_t first = s->at, end = skip(s, first, '0'), digits = end - first;
    if (!constant_may_stand(s) || digits > SP_SHAPE_DIGITS)
        return -1;
    if (class_at(s, end) == '.' || !sp_scan_stands_free(s, start, end))
        return -1;
    size_t to = s->out->starts[s->out->nconstants];
    if (start != first)
        s->out->values[to++] = '-';
    memcpy(s->out->values + to, s->sql + first, digits);
    s->at = end;
    take_out(s, start, SP_SHAPE_INTEGER, to + digits);
    s->before = start == first ? CONSTANT : SIGNED;
    return 0;
}

/* A string of plain quotes at s->at. Each byte that means something to some setting or encoding is refused. */
int sp_scan_string(scan *s)
{
    const size_t start = s->at;
    if (!constant_may_stand(s))
        return -1;
    size_t to = s->out->starts[s->out->nconstants];
    for (size_t i = start + 1; i < s->len; i++) {
        const uint8_t c = s->sql[i];
        if (c >= 0x80 || c == '\\' || c == 0)
            return -1;
        if (c == '\'') {
            if (i + 1 == s->len || s->sql[i + 1] != '\'') {
                s->at = i + 1;
                if (!sp_scan_stands_free(s, start, s->at))
                    return -1;
                take_out(s, start, SP_SHAPE_STRING, to);
                s->before = CONSTANT;
                return 0;
            }
            i++;
        }
        s->out->values[to++] = c;
    }
    return -1;
}

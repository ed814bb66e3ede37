/* text, varchar, char(n) and name. Follows src/backend/utils/adt/varchar.c, varlena.c and name.c. */
#include "read.h"

/* Length in characters of n bytes in the server's encoding; SP_ENC_OTHER is not asked. */
static size_t count_chars(const sp_settings *s, const uint8_t *p, size_t len)
{
    if (s->encoding == SP_ENC_SINGLE)
        return len;
    size_t chars = 0;
    for (size_t i = 0; i < len; i++)
        chars += (p[i] & 0xC0) != 0x80;
    return chars;
}

static size_t without_trailing_blanks(const uint8_t *p, size_t len)
{
    while (len != 0 && p[len - 1] == ' ')
        len--;
    return len;
}

/* varchar_input: blanks beyond the declared length are dropped, anything else there is an error. */
int32_t sp_read_text(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    d->data = p;
    if (len != 0 && memchr(p, 0, len) != NULL)
        return SP_INVALID;
    d->len = len;
    if (typmod < 4 || len <= (size_t)(typmod - 4))
        return SP_OK;
    size_t limit = (size_t)(typmod - 4);
    size_t kept = without_trailing_blanks(p, len);
    if (s->encoding == SP_ENC_OTHER) /* without blanks to drop, the value stays or is refused as it is */
        return kept == len ? SP_OK : SP_UNSUPPORTED;
    size_t chars = count_chars(s, p, kept);
    if (chars > limit)
        return SP_INVALID;
    size_t blanks = limit - chars;
    d->len = kept + (len - kept < blanks ? len - kept : blanks);
    return SP_OK;
}

/* bpchar_input; trailing blanks count neither for bpchareq nor for hashbpcharextended. */
int32_t sp_read_bpchar(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    d->data = p;
    if (len != 0 && memchr(p, 0, len) != NULL)
        return SP_INVALID;
    d->len = without_trailing_blanks(p, len);
    if (typmod >= 4 && s->encoding != SP_ENC_OTHER && count_chars(s, p, d->len) > (size_t)(typmod - 4))
        return SP_INVALID;
    return SP_OK;
}

size_t sp_write_bpchar(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)out;
    sp_writer w = {buf, cap, 0};
    size_t chars = 0; /* a byte that continues a character is none; other encodings get a few blanks less */
    for (size_t i = 0; i < d->len; i++) {
        sp_put(&w, d->data[i]);
        chars += (d->data[i] & 0xC0) != 0x80;
    }
    for (; typmod >= 4 && chars < (size_t)(typmod - 4); chars++)
        sp_put(&w, ' ');
    return w.len;
}

#define NAME_MOST 63 /* bytes: NAMEDATALEN - 1 */

/* namein: a longer one is cut off after its last whole character. */
int32_t sp_read_name(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)typmod;
    if (len != 0 && memchr(p, 0, len) != NULL)
        return SP_INVALID;
    d->data = p;
    d->len = len;
    if (len <= NAME_MOST)
        return SP_OK;
    d->len = NAME_MOST;
    if (s->encoding == SP_ENC_UTF8)
        while (d->len != 0 && (p[d->len] & 0xC0) == 0x80)
            d->len--;
    return s->encoding == SP_ENC_OTHER ? SP_UNSUPPORTED : SP_OK;
}

/* namerecv: a longer one is refused. */
int32_t sp_receive_name(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    return len > NAME_MOST ? SP_INVALID : sp_read_name(s, typmod, p, len, d);
}

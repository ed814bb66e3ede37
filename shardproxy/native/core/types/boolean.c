/* boolean. Follows src/backend/utils/adt/bool.c. */
#include "read.h"

/* parse_bool_with_len after boolin's trimming: any prefix of true, false, yes, no; on, of, off; 1, 0. */
int32_t sp_read_bool(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    static const struct {
        const char *word;
        size_t shortest;
        int64_t value;
    } words[] = {{"true", 1, 1}, {"false", 1, 0}, {"yes", 1, 1}, {"no", 1, 0},
                 {"on", 2, 1},   {"off", 2, 0},   {"1", 1, 1},   {"0", 1, 0}};
    (void)typmod;
    const uint8_t *whole = p;
    size_t whole_len = len;
    sp_trim(&p, &len);
    for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
        size_t n = strlen(words[w].word), i = 0;
        if (len < words[w].shortest || len > n)
            continue;
        while (i < len && sp_lower(p[i]) == (uint8_t)words[w].word[i])
            i++;
        if (i == len) {
            d->integer = words[w].value;
            return SP_OK;
        }
    }
    return sp_refuse(s, whole, whole_len);
}

int32_t sp_receive_bool(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    d->integer = len == 1 && *p != 0;
    return len == 1 ? SP_OK : SP_INVALID;
}

size_t sp_write_bool(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)cap, (void)out;
    buf[0] = d->integer != 0 ? 't' : 'f';
    return 1;
}

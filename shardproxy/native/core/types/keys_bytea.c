#include "keys.h"

enum { RAW, HEX, ESCAPE };

static int is_octal(uint8_t c, uint8_t last)
{
    return c >= '0' && c <= last;
}

/* byteain: checks the whole spelling and counts the bytes it stands for; binary fields are the bytes themselves. */
int32_t sp_bytea_open(const uint8_t *p, size_t len, int binary, sp_bytea *it, size_t *decoded)
{
    it->p = p;
    it->end = p + len;
    it->mode = binary ? RAW : ESCAPE;
    *decoded = len;
    if (binary)
        return SP_OK;
    const uint8_t *end = p + len;
    size_t n = 0;
    if (len >= 2 && p[0] == '\\' && p[1] == 'x') {
        it->mode = HEX;
        it->p = p += 2;
        while (p < end) {
            if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') {
                p++;
                continue;
            }
            if (end - p < 2 || sp_hex_digit(p[0]) < 0 || sp_hex_digit(p[1]) < 0)
                return SP_INVALID;
            p += 2;
            n++;
        }
        *decoded = n;
        return SP_OK;
    }
    while (p < end) {
        if (*p == 0)
            return SP_INVALID;
        if (*p != '\\')
            p++;
        else if (end - p >= 4 && is_octal(p[1], '3') && is_octal(p[2], '7') && is_octal(p[3], '7'))
            p += 4;
        else if (end - p >= 2 && p[1] == '\\')
            p += 2;
        else
            return SP_INVALID;
        n++;
    }
    *decoded = n;
    return SP_OK;
}

/* Relies on the spelling having passed sp_bytea_open. */
int sp_bytea_next(sp_bytea *it, uint8_t *byte)
{
    const uint8_t *p = it->p;
    if (it->mode == HEX)
        while (p < it->end && sp_is_space(*p))
            p++;
    if (p == it->end) {
        it->p = p;
        return 0;
    }
    if (it->mode == HEX) {
        *byte = (uint8_t)(sp_hex_digit(p[0]) << 4 | sp_hex_digit(p[1]));
        it->p = p + 2;
    } else if (it->mode == RAW || *p != '\\') {
        *byte = *p;
        it->p = p + 1;
    } else if (p[1] == '\\') {
        *byte = '\\';
        it->p = p + 2;
    } else {
        *byte = (uint8_t)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
        it->p = p + 4;
    }
    return 1;
}

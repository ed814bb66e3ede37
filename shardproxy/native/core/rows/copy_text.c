#include "rows/copy_text.h"

#include <string.h>

/* What follows the backslash; 0 for a byte that stands for itself. */
static const uint8_t escapes[256] = {['\\'] = '\\', ['\t'] = 't', ['\n'] = 'n', ['\r'] = 'r'};

#define ONES 0x0101010101010101u
#define HIGH 0x8080808080808080u

/* Bytes of `word` that are `byte`, in the high bit of each; a borrow may mark one after a real one, never alone. */
static inline uint64_t equal(uint64_t word, uint64_t byte)
{
    uint64_t other = word ^ (byte * ONES);
    return (other - ONES) & ~other & HIGH;
}

/* How many bytes from `at` on need no escape. */
static size_t plain(const uint8_t *value, size_t at, size_t size)
{
    size_t begin = at;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, value + at, 8);
        if (equal(word, '\\') | equal(word, '\t') | equal(word, '\n') | equal(word, '\r'))
            break;
    }
    while (at < size && !escapes[value[at]])
        at++;
    return at - begin;
}

int sp_copy_text_put(sp_buf *out, const uint8_t *value, size_t size)
{
    if (size > SIZE_MAX / 4 || sp_buf_reserve(out, 2 * size))
        return -1;
    uint8_t *to = out->data + out->len;
    for (size_t at = 0; at < size;) {
        size_t run = plain(value, at, size);
        memcpy(to, value + at, run);
        to += run;
        at += run;
        if (at < size) {
            *to++ = '\\';
            *to++ = escapes[value[at++]];
        }
    }
    out->len = (size_t)(to - out->data);
    return 0;
}

#include "sql/messages.h"

#include <string.h>

#define NULL_LENGTH 0xffffffffu /* -1 */

size_t sp_messages_count(const uint8_t *data, size_t len, size_t at, const sp_limits *limits)
{
    size_t count = 0;
    for (size_t end; (end = sp_message_end(data, len, at, limits)) != at; at = end)
        count++;
    return count;
}

size_t sp_messages_run(const uint8_t *data, size_t len, size_t at, uint8_t type, uint32_t limit)
{
    while (len - at >= SP_MESSAGE_HEADER && data[at] == type) {
        const uint32_t length = sp_message_length(data + at);
        if (length < 4 || length > limit || length > len - at - 1)
            break;
        at += 1 + (size_t)length;
    }
    return at;
}

size_t sp_bind_names(const uint8_t *payload, size_t len, size_t *statement)
{
    const uint8_t *end = len ? memchr(payload, 0, len) : NULL;
    if (!end)
        return 0;
    *statement = (size_t)(end - payload) + 1;
    end = *statement < len ? memchr(payload + *statement, 0, len - *statement) : NULL;
    return end ? (size_t)(end - payload) + 1 : 0;
}

/* A count and that many items of `size` bytes; returns where the first of them is, *at goes to their end. */
static size_t counted(const uint8_t *payload, size_t len, size_t *at, uint32_t *count, size_t size)
{
    if (len - *at < 2)
        return 0;
    *count = sp_load_be16(payload + *at);
    const size_t first = *at + 2;
    if (len - first < *count * size)
        return 0;
    *at = first + *count * size;
    return first;
}

int sp_bind_read(const uint8_t *payload, size_t len, sp_bind *out)
{
    uint32_t nresults;
    size_t at = sp_bind_names(payload, len, &out->statement);
    if (!at)
        return -1;
    out->formats = counted(payload, len, &at, &out->nformats, 2);
    if (!out->formats)
        return -1;
    out->values = counted(payload, len, &at, &out->nparams, 0);
    if (!out->values || (out->nformats > 1 && out->nformats != out->nparams))
        return -1;
    for (uint32_t i = 0; i < out->nparams; i++) {
        if (len - at < 4)
            return -1;
        const uint32_t length = sp_load_be32(payload + at);
        at += 4;
        if (length == NULL_LENGTH)
            continue;
        if (length > INT32_MAX || length > len - at)
            return -1;
        at += length;
    }
    return counted(payload, len, &at, &nresults, 2) && at == len ? 0 : -1;
}

int sp_bind_param(const uint8_t *payload, const sp_bind *bind, uint32_t n, const uint8_t **value, size_t *len)
{
    size_t at = bind->values;
    uint32_t length = sp_load_be32(payload + at);
    for (uint32_t i = 1; i < n; i++) {
        at += 4 + (length == NULL_LENGTH ? 0 : (size_t)length);
        length = sp_load_be32(payload + at);
    }
    *value = length == NULL_LENGTH ? NULL : payload + at + 4;
    *len = length == NULL_LENGTH ? 0 : length;
    if (!bind->nformats)
        return 0;
    const uint32_t format = sp_load_be16(payload + bind->formats + 2 * (bind->nformats > 1 ? (size_t)n - 1 : 0));
    return format > INT16_MAX ? (int)format - 65536 : (int)format;
}

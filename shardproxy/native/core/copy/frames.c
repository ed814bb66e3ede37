/* The CopyData messages of the client: what is in them is one stream, wherever it is cut. */
#include "splitter.h"

#include "network_order.h"
#include "split.h"

static inline void payload(sp_splitter *s, const uint8_t *p, size_t n)
{
    if (s->failed || s->ended)
        return;
    if (s->opt.format == SP_BINARY)
        sp_binary_span(s, p, n);
    else
        sp_lines_span(s, p, n);
}

/*
 * Whole short messages, as clients send that write a row each: concatenated, many rows are split at once. Returns the
 * bytes taken, which are none where the next message is not one of those.
 */
static size_t take_short(sp_splitter *s, const uint8_t *data, size_t len)
{
    size_t at = 0, used = 0;
    while (len - at > SP_MESSAGE_HEADER && data[at] == 'd') {
        const uint32_t length = sp_message_length(data + at);
        if (length <= 4 || length > SP_SHORT_MESSAGE || length >= len - at)
            break;
        if (!s->failed) { /* else the rest is dropped, and the refused row's values may stand in here */
            memcpy(s->joined + used, data + at + SP_MESSAGE_HEADER, length - 4);
            used += length - 4;
        }
        at += 1 + length;
        if (used > SP_JOINED - SP_SHORT_MESSAGE) {
            payload(s, s->joined, used);
            used = 0;
        }
    }
    if (used)
        payload(s, s->joined, used);
    return at;
}

size_t sp_splitter_feed(sp_splitter *s, const uint8_t *data, size_t len)
{
    sp_frame_state *f = &s->frame;
    size_t at = 0;
    while (at < len) {
        if (f->left) {
            size_t part = len - at < f->left ? len - at : f->left;
            payload(s, data + at, part);
            f->left -= (uint32_t)part;
            at += part;
            continue;
        }
        const uint8_t *header = data + at;
        if (f->have == 0) {
            if (*header != 'd')
                break;
            size_t taken = take_short(s, header, len - at);
            if (taken) {
                at += taken;
                continue;
            }
            if (len - at >= SP_MESSAGE_HEADER) {
                at += SP_MESSAGE_HEADER;
                goto complete;
            }
        }
        while (f->have < SP_MESSAGE_HEADER && at < len)
            f->header[f->have++] = data[at++];
        if (f->have < SP_MESSAGE_HEADER)
            break;
        header = f->header;
        f->have = 0;
    complete:;
        uint32_t length = sp_message_length(header);
        if (length < 4 || length > SP_MAX_ROW) { /* pq_getmessage() with PQ_LARGE_MESSAGE_LIMIT */
            sp_fail(s, "08P01", "invalid message length", NULL, 0);
            return len;
        }
        f->left = length - 4;
    }
    return at;
}

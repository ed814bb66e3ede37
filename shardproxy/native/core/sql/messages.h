/*
 * Whole messages of the frontend/backend protocol in a run of bytes, and what a Bind (F) holds.
 *
 * Manual: "Message Formats" (a type byte, then an int32 length that counts itself). Nothing is copied and nothing is
 * kept: what is not whole, or not right, is left to the reader that can wait and report.
 */
#ifndef SP_SQL_MESSAGES_H
#define SP_SQL_MESSAGES_H

#include "network_order.h"

#include <stddef.h>
#include <stdint.h>

/* For each type byte the greatest length word; 0: that type may not come. */
typedef struct {
    uint32_t of[256];
} sp_limits;

/* Where the message that begins at `at` ends; `at` itself: it is not whole, too short or over its limit. */
static inline size_t sp_message_end(const uint8_t *data, size_t len, size_t at, const sp_limits *limits)
{
    if (len - at < SP_MESSAGE_HEADER)
        return at;
    const uint32_t length = sp_message_length(data + at);
    return length < 4 || length > limits->of[data[at]] || length > len - at - 1 ? at : at + 1 + length;
}

/* How many whole messages follow each other from `at`. */
size_t sp_messages_count(const uint8_t *data, size_t len, size_t at, const sp_limits *limits);

/* Where a run of whole messages of one type ends, of length words up to `limit`. */
size_t sp_messages_run(const uint8_t *data, size_t len, size_t at, uint8_t type, uint32_t limit);

/* The parts of a Bind's payload, as offsets into it. The portal's name begins at 0. */
typedef struct {
    size_t statement;   /* its name; the portal's has ended one byte before */
    size_t formats;     /* the first parameter format; the statement's name has ended three bytes before */
    uint32_t nformats;  /* 0, 1 or nparams */
    size_t values;      /* the first parameter's length word */
    uint32_t nparams;
} sp_bind;

/* Both names; returns where the rest begins, or 0 if a name has no end. */
size_t sp_bind_names(const uint8_t *payload, size_t len, size_t *statement);

/* Reads a whole payload; nonzero: what exec_bind_message (tcop/postgres.c) would refuse as a protocol violation. */
int sp_bind_read(const uint8_t *payload, size_t len, sp_bind *out);

/* Parameter n, from 1 to nparams, of a payload that sp_bind_read has read; *value is NULL for NULL. Returns its format. */
int sp_bind_param(const uint8_t *payload, const sp_bind *bind, uint32_t n, const uint8_t **value, size_t *len);

#endif

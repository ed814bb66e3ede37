#include "merge.h"

#include "bytebuf.h"
#include "network_order.h"

#define MAX_MESSAGE 0x3fffffffu /* libpq's and PostgreSQL's bound of a message, MaxAllocSize */
#define BINARY_HEADER 19        /* signature, flags, length of the extension */

typedef struct {
    sp_buf carry; /* a message that is not complete yet */
    int started;  /* its first message has been seen */
} merge_source;

typedef struct {
    const uint8_t *data;
    size_t len;
} piece;

struct sp_merge {
    uint32_t nsources;
    uint8_t type;
    int format, header;
    int header_sent;
    merge_source *sources;
    sp_buf binary_header; /* the first one seen */
    sp_buf patch;         /* framing of a message that changes, kept until it is taken */
    sp_buf pieces;        /* what sp_merge_take copies */
    uint64_t rows, limit;
    merge_source *current;
    const uint8_t *rest; /* the incomplete message after the pieces */
    size_t rest_len;
    int carry_done;
};

static const uint8_t empty_header[BINARY_HEADER] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n'};

sp_merge *sp_merge_new(uint32_t nsources, uint8_t type, int format, int header, uint64_t limit)
{
    sp_merge *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->sources = calloc(nsources ? nsources : 1, sizeof *m->sources);
    if (!m->sources) {
        free(m);
        return NULL;
    }
    m->nsources = nsources;
    m->type = type;
    m->format = format;
    m->header = header && format == SP_MERGE_TEXT;
    m->limit = limit;
    return m;
}

void sp_merge_free(sp_merge *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->nsources; i++)
        sp_buf_free(&m->sources[i].carry);
    free(m->sources);
    sp_buf_free(&m->binary_header);
    sp_buf_free(&m->patch);
    sp_buf_free(&m->pieces);
    free(m);
}

static int emit(sp_merge *m, const uint8_t *data, size_t len)
{
    piece *pieces = (piece *)m->pieces.data;
    size_t count = m->pieces.len / sizeof *pieces;
    if (count && pieces[count - 1].data + pieces[count - 1].len == data) {
        pieces[count - 1].len += len;
        return SP_MERGE_OK;
    }
    piece added = {data, len};
    return sp_buf_append(&m->pieces, (const uint8_t *)&added, sizeof added) ? SP_MERGE_MEMORY : SP_MERGE_OK;
}

/* A row's message whose payload gets the header in front, or loses its own. */
static int emit_patched(sp_merge *m, const sp_buf *prefix, const uint8_t *payload, size_t len)
{
    m->patch.len = 0;
    if (sp_buf_reserve(&m->patch, SP_MESSAGE_HEADER + (prefix ? prefix->len : 0)))
        return SP_MERGE_MEMORY;
    sp_message_header(m->patch.data, m->type, (uint32_t)(len + (prefix ? prefix->len : 0)) + 4);
    m->patch.len = SP_MESSAGE_HEADER;
    if (prefix && sp_buf_append(&m->patch, prefix->data, prefix->len))
        return SP_MERGE_MEMORY;
    int r = emit(m, m->patch.data, m->patch.len);
    return r ? r : emit(m, payload, len);
}

static int is_trailer(const uint8_t *payload, size_t len)
{
    return len == 2 && payload[0] == 0xff && payload[1] == 0xff;
}

static int binary_message(sp_merge *m, const uint8_t *message, size_t len)
{
    const uint8_t *payload = message + SP_MESSAGE_HEADER;
    size_t n = len - SP_MESSAGE_HEADER, header = 0;
    if (!m->current->started) {
        m->current->started = 1;
        if (n < BINARY_HEADER || memcmp(payload, empty_header, 11) != 0)
            return SP_MERGE_BAD_HEADER;
        size_t extension = sp_load_be32(payload + 15);
        if (extension > n - BINARY_HEADER)
            return SP_MERGE_BAD_HEADER;
        header = BINARY_HEADER + extension;
        if (!m->binary_header.len && sp_buf_append(&m->binary_header, payload, header))
            return SP_MERGE_MEMORY;
    }
    if (n == header || is_trailer(payload + header, n - header) || m->rows >= m->limit)
        return SP_MERGE_OK;
    m->rows++;
    if (!m->header_sent) {
        m->header_sent = 1;
        return header ? emit(m, message, len) : emit_patched(m, &m->binary_header, payload, n);
    }
    return header ? emit_patched(m, NULL, payload + header, n - header) : emit(m, message, len);
}

static int one_message(sp_merge *m, const uint8_t *message, size_t len)
{
    if (m->format == SP_MERGE_BINARY)
        return binary_message(m, message, len);
    if (m->header && !m->current->started) {
        m->current->started = 1;
        if (m->header_sent)
            return SP_MERGE_OK;
        m->header_sent = 1;
        return emit(m, message, len);
    }
    if (m->rows >= m->limit)
        return SP_MERGE_OK;
    m->rows++;
    return emit(m, message, len);
}

/* The whole length of the message at p, of which at least five bytes are there; 0: illegal. */
static size_t message_length(const uint8_t *p)
{
    uint32_t length = sp_message_length(p);
    return length < 4 || length > MAX_MESSAGE ? 0 : (size_t)length + 1;
}

/* Completes the carried message; *at is how much of the data that took. */
static int continue_carry(sp_merge *m, const uint8_t *data, size_t len, size_t *at)
{
    sp_buf *carry = &m->current->carry;
    if (carry->len < SP_MESSAGE_HEADER) {
        size_t part = SP_MESSAGE_HEADER - carry->len < len ? SP_MESSAGE_HEADER - carry->len : len;
        if (sp_buf_append(carry, data, part))
            return SP_MERGE_MEMORY;
        *at = part;
        if (carry->len < SP_MESSAGE_HEADER)
            return SP_MERGE_OK;
    }
    size_t total = message_length(carry->data);
    if (!total)
        return SP_MERGE_BAD_LENGTH;
    size_t part = total - carry->len < len - *at ? total - carry->len : len - *at;
    if (sp_buf_append(carry, data + *at, part))
        return SP_MERGE_MEMORY;
    *at += part;
    if (carry->len < total)
        return SP_MERGE_OK;
    m->carry_done = 1;
    return one_message(m, carry->data, total);
}

int sp_merge_feed(sp_merge *m, uint32_t source, const uint8_t *data, size_t len, size_t *taken, size_t *size)
{
    size_t at = 0;
    int r;
    m->current = &m->sources[source];
    m->pieces.len = 0;
    m->rest_len = 0;
    m->carry_done = 0;
    *taken = *size = 0;
    if (m->current->carry.len && len) {
        r = continue_carry(m, data, len, &at);
        if (r)
            return r;
        if (!m->carry_done) {
            *taken = at;
            return SP_MERGE_OK;
        }
    }
    while (at < len && data[at] == m->type) {
        size_t total = len - at < SP_MESSAGE_HEADER ? 0 : message_length(data + at);
        if (len - at >= SP_MESSAGE_HEADER && !total)
            return SP_MERGE_BAD_LENGTH;
        if (!total || len - at < total) {
            m->rest = data + at;
            m->rest_len = len - at;
            at = len;
            break;
        }
        r = one_message(m, data + at, total);
        if (r)
            return r;
        at += total;
    }
    const piece *pieces = (const piece *)m->pieces.data;
    for (size_t i = 0; i < m->pieces.len / sizeof *pieces; i++)
        *size += pieces[i].len;
    *taken = at;
    return SP_MERGE_OK;
}

int sp_merge_take(sp_merge *m, uint8_t *out)
{
    const piece *pieces = (const piece *)m->pieces.data;
    for (size_t i = 0; i < m->pieces.len / sizeof *pieces; i++) {
        memcpy(out, pieces[i].data, pieces[i].len);
        out += pieces[i].len;
    }
    m->pieces.len = 0;
    if (m->carry_done) {
        m->carry_done = 0;
        if (m->current->carry.cap > 1u << 20) /* one long row must not keep its memory */
            sp_buf_free(&m->current->carry);
        m->current->carry.len = 0;
    }
    size_t rest = m->rest_len;
    m->rest_len = 0;
    return sp_buf_append(&m->current->carry, m->rest, rest) ? SP_MERGE_MEMORY : SP_MERGE_OK;
}

size_t sp_merge_tail(const sp_merge *m, uint8_t *out, size_t room)
{
    if (m->format != SP_MERGE_BINARY)
        return 0;
    const uint8_t *header = m->binary_header.len ? m->binary_header.data : empty_header;
    size_t n = m->header_sent ? 0 : m->binary_header.len ? m->binary_header.len : BINARY_HEADER;
    if (n + 7 > room)
        return n + 7;
    sp_message_header(out, m->type, (uint32_t)n + 6);
    if (n)
        memcpy(out + SP_MESSAGE_HEADER, header, n);
    memset(out + SP_MESSAGE_HEADER + n, 0xff, 2);
    return n + 7;
}

uint64_t sp_merge_rows(const sp_merge *m) { return m->rows; }

/*
 * The rows of a binary stream: "Binary Format" of the manual's COPY page, NextCopyFrom() of copyfromparse.c.
 *
 * What PostgreSQL certainly refuses within a row is sent to a shard, which reports it in its own words and knows the
 * column; what follows it cannot be understood and is dropped.
 */
#include "split.h"

#include "network_order.h"

enum { SIGNATURE = 0, FLAGS, EXTENSION_LENGTH, EXTENSION, COUNT, LENGTH, DATA, TRAILER, REFUSED };
enum { ROW_WHOLE, ROW_PART, ROW_TRAILER, ROW_REFUSED };

static const uint8_t signature[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

static int bad_field_size(uint32_t size)
{
    return size > SP_MAX_ROW && size != 0xffffffffu; /* negative, or over what enlargeStringInfo() takes */
}

/* A row from its first byte: how long it is and its key values; ROW_REFUSED: refused after *len bytes. */
static inline int parse_row(sp_splitter *s, const uint8_t *p, size_t n, size_t *len, size_t *found)
{
    size_t at = 2, k = 0;
    *found = 0;
    if (n < 2)
        return ROW_PART;
    int32_t fields = sp_signed16(sp_load_be16(p));
    if (fields < 0) {
        *len = 2;
        return fields == -1 ? ROW_TRAILER : ROW_REFUSED;
    }
    for (int32_t field = 0; field < fields; field++) {
        if (n - at < 4)
            return ROW_PART;
        uint32_t size = sp_load_be32(p + at);
        at += 4;
        int is_null = size == 0xffffffffu;
        if (is_null) {
            size = 0;
        } else if (__builtin_expect(bad_field_size(size), 0)) {
            *len = at;
            return ROW_REFUSED;
        }
        if (n - at < size)
            return ROW_PART;
        while (k < s->nkeys && s->keys[k].field == field) {
            sp_value *v = &s->values[s->key_index[k++]];
            v->data = p + at;
            v->len = size;
            v->is_null = is_null;
            *found = k;
        }
        at += size;
    }
    *len = at;
    return ROW_WHOLE;
}

static int header_step(sp_splitter *s)
{
    const uint8_t *end = s->carry.data + s->carry.len;
    uint32_t value;
    switch (s->bin.stage) {
    case SIGNATURE:
        if (memcmp(s->carry.data, signature, sizeof signature) != 0)
            return sp_fail(s, "22P04", "COPY file signature not recognized", NULL, 0);
        s->bin.stage = FLAGS;
        s->bin.need = 4;
        return 0;
    case FLAGS:
        value = sp_load_be32(end - 4);
        if (value & 1u << 16)
            return sp_fail(s, "22P04", "invalid COPY file header (WITH OIDS)", NULL, 0);
        if (value >> 16)
            return sp_fail(s, "22P04", "unrecognized critical flags in COPY file header", NULL, 0);
        s->bin.stage = EXTENSION_LENGTH;
        s->bin.need = 4;
        return 0;
    case EXTENSION_LENGTH:
        value = sp_load_be32(end - 4);
        if (value > INT32_MAX)
            return sp_fail(s, "22P04", "invalid COPY file header (missing length)", NULL, 0);
        s->bin.stage = EXTENSION;
        s->bin.need = value;
        /* An extension is passed on as it comes: it may be long. */
        if (sp_put_all(s, s->carry.data, s->carry.len))
            return -1;
        s->carry.len = 0;
        return 0;
    default:
        s->bin.stage = COUNT;
        s->bin.need = 2;
        return 0;
    }
}

static int refuse(sp_splitter *s)
{
    s->bin.stage = REFUSED;
    if (s->stream_shard == (int32_t)s->nshards) /* no shard would say so of what follows */
        return sp_fail(s, "22P04", "unexpected EOF in COPY data", NULL, s->lines + 1);
    return sp_row_refuse(s);
}

static int trailer(sp_splitter *s)
{
    s->bin.stage = TRAILER;
    s->carry.len = 0;
    return sp_put_all(s, (const uint8_t *)"\377\377", 2);
}

/* The row in carry is complete. */
static int row_from_carry(sp_splitter *s)
{
    s->bin.stage = COUNT;
    s->bin.need = 2;
    if (s->stream_shard != SP_NOT_STREAMING)
        return sp_row_finish_carry(s, 0);
    size_t len, found;
    parse_row(s, s->carry.data, s->carry.len, &len, &found);
    int extracted = found == s->nkeys ? SP_FIELDS_OK : SP_FIELDS_MISSING;
    if (sp_place_keyed(s, s->carry.data, s->carry.len, extracted))
        return -1;
    sp_row_reset(s);
    return 0;
}

/* carry got all that was needed: what comes next in the row. */
static int row_step(sp_splitter *s)
{
    const uint8_t *end = s->carry.data + s->carry.len;
    switch (s->bin.stage) {
    case COUNT:
        s->bin.fields = sp_signed16(sp_load_be16(end - 2));
        s->bin.field = 0;
        if (s->bin.fields == -1)
            return trailer(s);
        if (s->bin.fields < 0)
            return refuse(s);
        break;
    case LENGTH: {
        uint32_t size = sp_load_be32(end - 4);
        if (bad_field_size(size))
            return refuse(s);
        s->bin.stage = DATA;
        s->bin.need = size == 0xffffffffu ? 0 : size;
        return 0;
    }
    default:
        s->bin.field++;
    }
    if (s->bin.field == s->bin.fields)
        return row_from_carry(s);
    s->bin.stage = LENGTH;
    s->bin.need = 4;
    return 0;
}

/* A long row is sent on as soon as all of its key fields have come. */
static int stream(sp_splitter *s)
{
    if (s->stream_shard == SP_NOT_STREAMING && s->opt.set_aside)
        return s->carry.len > s->opt.max_row ? sp_row_too_long(s) : 0;
    if (s->stream_shard == SP_NOT_STREAMING) {
        if (s->carry.len <= s->stream_from)
            return 0;
        size_t len, found = 0;
        if (s->constant_shard == SP_NO_CONSTANT) {
            parse_row(s, s->carry.data, s->carry.len, &len, &found);
            if (found < s->nkeys) {
                s->stream_from = s->carry.len * 2;
                return 0;
            }
        }
        int32_t target = sp_target(s, SP_FIELDS_OK);
        if (target == SP_TARGET_ERROR)
            return -1;
        s->stream_shard = target;
    }
    return s->carry.len > 4 ? sp_release(s, s->carry.len) : 0;
}

static int pieces(sp_splitter *s, const uint8_t **p, size_t *n)
{
    size_t part = *n < s->bin.need ? *n : s->bin.need;
    if (s->bin.stage == EXTENSION) {
        if (sp_put_all(s, *p, part))
            return -1;
    } else if (sp_row_append(s, *p, part)) {
        return -1;
    }
    *p += part;
    *n -= part;
    s->bin.need -= (uint32_t)part;
    /* A field of no bytes needs no more input. */
    while (s->bin.need == 0 && s->bin.stage < TRAILER) {
        int row_start = s->bin.stage == COUNT;
        if (s->bin.stage < COUNT ? header_step(s) : row_step(s))
            return -1;
        if (s->bin.stage == COUNT && !row_start)
            break;
    }
    return s->bin.stage == DATA ? stream(s) : 0;
}

int sp_binary_span(sp_splitter *s, const uint8_t *p, size_t n)
{
    while (n) {
        if (s->bin.stage == REFUSED)
            return 0;
        if (s->bin.stage == TRAILER)
            return sp_fail(s, "22P04", "received copy data after EOF marker", NULL, s->lines + 1);
        if (s->bin.stage != COUNT || s->carry.len) {
            if (pieces(s, &p, &n))
                return -1;
            continue;
        }
        size_t len, found;
        switch (parse_row(s, p, n, &len, &found)) {
        case ROW_WHOLE:
            if (sp_place_keyed(s, p, len, found == s->nkeys ? SP_FIELDS_OK : SP_FIELDS_MISSING))
                return -1;
            p += len;
            n -= len;
            continue;
        case ROW_TRAILER:
            if (trailer(s))
                return -1;
            p += 2;
            n -= 2;
            continue;
        default: /* a part, or refused on the way: byte for byte decisions */
            if (pieces(s, &p, &n))
                return -1;
        }
    }
    return 0;
}

int sp_binary_finish(sp_splitter *s)
{
    static const char *const missing[] = {"COPY file signature not recognized",
                                          "invalid COPY file header (missing flags)",
                                          "invalid COPY file header (missing length)",
                                          "invalid COPY file header (wrong length)"};
    if (s->bin.stage < COUNT)
        return sp_fail(s, "22P04", missing[s->bin.stage], NULL, 0);
    if (s->bin.stage >= TRAILER || s->bin.stage == COUNT) /* one byte of a count is the end for PostgreSQL, too */
        return 0;
    return refuse(s);
}

int sp_splitter_trailed(const sp_splitter *s) { return s->opt.format == SP_BINARY && s->bin.stage == TRAILER; }

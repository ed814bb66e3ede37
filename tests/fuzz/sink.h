/* What the splitter's fuzz targets share: a sink that checks every output message, and collects what is in them. */
#ifndef SINK_H
#define SINK_H

#include "bytebuf.h"
#include "require.h"
#include "copy/splitter.h"

static uint8_t *sink_alloc(void *context, size_t size, void **handle)
{
    (void)context;
    return *handle = malloc(size); /* of its own, so that the sanitizer sees one byte too many */
}

/* The context is the shards' sp_buf; what is for all of them goes to the first one. */
static int sink_seal(void *context, int32_t shard, void *handle, size_t used, size_t size)
{
    sp_buf *shards = context;
    const uint8_t *p = handle;
    REQUIRE(used >= 5 && used <= size);
    REQUIRE(p[0] == 'd');
    REQUIRE(((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]) == used - 1);
    REQUIRE(sp_buf_append(&shards[shard < 0 ? 0 : shard], p + 5, used - 5) == 0);
    free(handle);
    return 0;
}

static void sink_drop(void *context, void *handle)
{
    (void)context;
    free(handle);
}

/* Feeds a stream of messages of `frame` bytes each, `feed` bytes at a time, to the last byte. */
static void feed_all(sp_splitter *s, const uint8_t *data, size_t n, size_t frame, size_t feed)
{
    sp_buf stream = {0};
    for (size_t at = 0; at < n; at += frame) {
        size_t part = n - at < frame ? n - at : frame;
        uint32_t length = (uint32_t)part + 4;
        uint8_t header[5] = {'d', (uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8),
                             (uint8_t)length};
        REQUIRE(sp_buf_append(&stream, header, 5) == 0 && sp_buf_append(&stream, data + at, part) == 0);
    }
    for (size_t at = 0; at < stream.len;) {
        size_t part = stream.len - at < feed ? stream.len - at : feed;
        uint8_t *exact = malloc(part); /* so that reading behind it is seen */
        REQUIRE(exact);
        memcpy(exact, stream.data + at, part);
        REQUIRE(sp_splitter_feed(s, exact, part) == part);
        memset(exact, 'U', part); /* nor is it read later */
        free(exact);
        at += part;
    }
    sp_buf_free(&stream);
    sp_splitter_finish(s);
    REQUIRE(!sp_splitter_pending(s));
}

#endif

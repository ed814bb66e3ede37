/*
 * The merge of servers' messages under a fuzzer: any bytes, from any source, in any pieces. What comes out is whole
 * messages of the right type, and no more rows than the limit. The first bytes choose format, pieces and limit.
 */
#include "bytebuf.h"
#include "merge/merge.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    if (n < 4)
        return 0;
    uint64_t limit = input[3] < 128 ? input[3] : SP_MERGE_ALL;
    sp_merge *m = sp_merge_new(2, 'd', input[0] % 3, input[0] >> 7, limit);
    REQUIRE(m);
    size_t step = 1 + input[1];
    uint32_t source = 0;
    for (size_t at = 4; at < n;) {
        size_t part = n - at < step ? n - at : step, taken, size;
        uint8_t *exact = malloc(part);
        memcpy(exact, input + at, part);
        int r = sp_merge_feed(m, source, exact, part, &taken, &size);
        if (r == SP_MERGE_OK) {
            uint8_t *out = malloc(size ? size : 1);
            REQUIRE(taken <= part && sp_merge_take(m, out) == SP_MERGE_OK);
            for (size_t i = 0; i < size;) {
                REQUIRE(size - i >= 5 && out[i] == 'd');
                size_t length = (size_t)out[i + 1] << 24 | (size_t)out[i + 2] << 16 | (size_t)out[i + 3] << 8 | out[i + 4];
                REQUIRE(length >= 4 && length < size - i);
                i += length + 1;
            }
            free(out);
        }
        free(exact);
        if (r != SP_MERGE_OK)
            break;
        source = input[2] & 1 ? !source : source;
        at += taken ? taken : 1;
    }
    REQUIRE(sp_merge_rows(m) <= limit);
    size_t need = sp_merge_tail(m, NULL, 0);
    uint8_t *tail = malloc(need ? need : 1);
    REQUIRE(sp_merge_tail(m, tail, need) == need);
    free(tail);
    sp_merge_free(m);
    return 0;
}

/* A value in COPY's text format: it holds no byte that ends a field, and is what it was once it is read back. */
#include "require.h"
#include "rows/copy_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_buf out = {0};
    REQUIRE(sp_copy_text_put(&out, (const uint8_t *)"x", 1) == 0);
    REQUIRE(sp_copy_text_put(&out, data, size) == 0);
    size_t at = 1, read = 0;
    for (; at < out.len; read++) {
        uint8_t byte = out.data[at++];
        REQUIRE(byte != '\t' && byte != '\n' && byte != '\r');
        if (byte == '\\') {
            REQUIRE(at < out.len);
            byte = out.data[at++];
            byte = byte == 't' ? '\t' : byte == 'n' ? '\n' : byte == 'r' ? '\r' : byte;
        }
        REQUIRE(read < size && byte == data[read]);
    }
    REQUIRE(read == size);
    sp_buf_free(&out);
    return 0;
}

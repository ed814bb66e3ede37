/* Integer keys with sixteen digits at a time in a wide register, where the compiler has one. */
#include "digits.h"
#include "integers.h"
#include "masks_parts.h"
#include "types/hash.h"

#define SP_TARGET
#define SP_NAME plain
#ifdef SP_SWAR_WIDE
#define SP_READ_16 sp_read_16_digits
#include "integers_body.h"
#else
size_t sp_integers_plain(const sp_integers_spec *spec, const uint64_t *delimiter, const uint8_t *base, size_t readable,
                         size_t at, const uint32_t *ends, size_t n, uint64_t *hashes, uint16_t *others)
{
    (void)spec, (void)delimiter, (void)base, (void)readable, (void)at, (void)ends;
    for (size_t i = 0; i < n; i++) {
        hashes[i] = 0;
        others[i] = (uint16_t)i;
    }
    return n;
}
#endif

/*
 * Integer keys of many rows at once, found by the delimiters' bitmap, and hashed. Knows nothing of the splitter.
 */
#ifndef SP_INTEGERS_H
#define SP_INTEGERS_H

#include <stddef.h>
#include <stdint.h>

#define SP_BATCH 256                  /* rows of one call, about */
#define SP_BATCH_MOST (SP_BATCH + 64) /* and at most: what a bitmap's last word holds may be more */

typedef struct {
    int32_t field;  /* the key's, from 0 */
    uint32_t newline; /* bytes of a line's end: 1 or 2 */
    uint32_t bits;  /* of the key's type: 16, 32 or 64 */
} sp_integers_spec;

/*
 * The hashes of the keys of n rows (at most SP_BATCH_MOST) whose newlines end at the bits `ends`; the first row begins
 * at bit `at`. delimiter has a readable word after its last; `readable` bytes follow base. Rows whose key is not plain
 * digits of the type, or not certainly, are listed in `others`, and their hashes mean nothing. Returns how many there
 * are.
 */
typedef size_t sp_integers_fn(const sp_integers_spec *spec, const uint64_t *delimiter, const uint8_t *base,
                              size_t readable, size_t at, const uint32_t *ends, size_t n, uint64_t *hashes,
                              uint16_t *others);

extern sp_integers_fn *sp_integers_run; /* chosen together with sp_masks_run */

#endif

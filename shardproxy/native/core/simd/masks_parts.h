/* What the loops over each instruction set share. */
#ifndef SP_MASKS_PARTS_H
#define SP_MASKS_PARTS_H

#include <string.h>

#include "integers.h"
#include "masks.h"

#define SP_PASTE2(a, b) a##b
#define SP_PASTE(a, b) SP_PASTE2(a, b)

/* CSV with an escape of its own, in 64 bytes that contain one: which bytes are inside quotes. */
uint64_t sp_masks_escape_block(const sp_mask_spec *spec, sp_mask_state *st, const uint8_t *p, uint64_t valid);

sp_mask_fn sp_masks_plain;
sp_integers_fn sp_integers_plain;
#if defined(__x86_64__)
#define SP_HAVE_X86 1
sp_mask_fn sp_masks_sse2, sp_masks_avx2, sp_masks_avx512;
sp_integers_fn sp_integers_avx2;
#endif
#if defined(__aarch64__)
#define SP_HAVE_NEON 1
sp_mask_fn sp_masks_neon;
#endif

static inline uint64_t sp_prefix_xor(uint64_t x)
{
    x ^= x << 1;
    x ^= x << 2;
    x ^= x << 4;
    x ^= x << 8;
    x ^= x << 16;
    x ^= x << 32;
    return x;
}

#endif

/*
 * 64 bytes at a time: where rows end and fields are separated, as bitmaps.
 *
 * Only for the ordinary case: the newline style is known and no option is a newline, backslash or such. Whatever
 * these cannot tell is marked special, and the byte by byte scan decides.
 */
#ifndef SP_MASKS_H
#define SP_MASKS_H

#include <stddef.h>
#include <stdint.h>

#define SP_MASK_WORDS 256 /* 16 KiB of input: its bitmaps stay in the first-level cache */
#define SP_MASK_BYTES (SP_MASK_WORDS * 64)

typedef struct {
    uint8_t quote, escape, delimiter;
    int csv, eol; /* SP_EOL_... */
} sp_mask_spec;

typedef struct {
    uint64_t in_quote; /* CSV: 0 or all ones */
    uint64_t escaped;  /* the first byte is escaped: CSV, inside quotes; text */
    uint64_t carriage; /* CRLF: the byte before was an unquoted carriage return */
    uint64_t last_hidden, last_carriage; /* of the last block, for one that is not full */
} sp_mask_state;

typedef struct {
    uint64_t newline[SP_MASK_WORDS];  /* the last byte of each row's newline */
    uint64_t delimiter[SP_MASK_WORDS + 1]; /* a zero word follows, for reading 64 bits from any bit on */
    uint64_t embedded[SP_MASK_WORDS]; /* CSV: line ends inside quotes that PostgreSQL counts */
    uint64_t any_embedded;
    uint64_t any_marked;              /* some byte is a quote (CSV) or a backslash (text) */
    size_t special;                   /* offset of the first byte that needs the byte by byte scan, or SIZE_MAX */
} sp_masks;

/* Fills the words for n bytes (at most SP_MASK_BYTES) and advances the state. Reads nothing after p + n. */
typedef void sp_mask_fn(const sp_mask_spec *spec, sp_mask_state *state, const uint8_t *p, size_t n, sp_masks *out);

extern sp_mask_fn *sp_masks_run;

const char *sp_simd_name(void);
int sp_simd_force(const char *name); /* NULL: the best; nonzero: not on this machine */
const char *const *sp_simd_names(void); /* those that run here, best first, NULL at the end */

#endif

/* The value of a numeric, for numeric.c and numeric_text.c; the caller owns its memory (table.c). */
#ifndef SP_NUMERIC_H
#define SP_NUMERIC_H

#include "read.h"

typedef enum { SP_NUM_NINF = 0, SP_NUM_NEG, SP_NUM_ZERO, SP_NUM_POS, SP_NUM_INF, SP_NUM_NAN } sp_num_kind;

/* From weight 32767 (NUMERIC_WEIGHT_MAX) down to 16383 decimal places (NUMERIC_DSCALE_MAX), base 10000. */
#define SP_NUM_DIGITS (32768 + 4096 + 1)

struct sp_numeric {
    sp_num_kind kind;
    int32_t weight; /* of digits[0], a power of 10000 */
    int32_t scale;  /* decimals shown */
    uint32_t ndigits;
    uint16_t digits[SP_NUM_DIGITS]; /* stripped: neither first nor last is zero */
};

/* 1, 10, 100, 1000 */
extern const uint16_t sp_powers_of_ten[4];

/*
 * The digits in [p, end), other characters skipped; the first stands at decimal position `position`. dscale is
 * the number of decimals written. SP_INVALID: out of range, or too long for the column.
 */
int32_t sp_numeric_of_digits(const uint8_t *p, const uint8_t *end, int64_t position, int64_t dscale, int negative,
                             int32_t typmod, sp_numeric *out);
/* NaN, or an infinity, which only 14 and newer have, and no column with a precision. */
int32_t sp_numeric_special(sp_numeric *out, sp_num_kind kind, const sp_settings *s, int32_t typmod);

#endif

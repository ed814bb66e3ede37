/* numeric: text read and written. Follows numeric_in and numeric_out of src/backend/utils/adt/numeric.c. */
#include "numeric.h"

/* Hexadecimal, octal and binary integers up to 256 bits; longer ones are refused as unknown. */
#define MAX_LIMBS 8

static int base_of(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2 || p[0] != '0')
        return 10;
    uint8_t mark = sp_lower(p[1]);
    return mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
}

/* set_var_from_non_decimal_integer_str, by way of the decimal spelling. */
static int32_t read_other_base(const uint8_t *p, const uint8_t *end, unsigned base, int negative, int32_t typmod,
                               sp_numeric *out)
{
    uint32_t limbs[MAX_LIMBS] = {0};
    int too_long = 0;
    if (p == end)
        return SP_INVALID;
    for (; p < end; p++) {
        if (*p == '_' && ++p == end)
            return SP_INVALID;
        int digit = sp_hex_digit(*p);
        if (digit < 0 || (unsigned)digit >= base)
            return SP_INVALID;
        uint64_t carry = (unsigned)digit;
        for (int i = 0; i < MAX_LIMBS; i++) {
            carry += (uint64_t)limbs[i] * base;
            limbs[i] = (uint32_t)carry;
            carry >>= 32;
        }
        too_long |= carry != 0;
    }
    if (too_long)
        return SP_UNSUPPORTED;
    uint8_t decimal[80];
    size_t at = sizeof decimal;
    for (int any = 1; any;) { /* 256 bits have 78 digits */
        uint64_t rest = 0;
        any = 0;
        for (int i = MAX_LIMBS - 1; i >= 0; i--) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 10);
            any |= limbs[i] != 0;
            rest %= 10;
        }
        decimal[--at] = (uint8_t)('0' + rest);
    }
    return sp_numeric_of_digits(decimal + at, decimal + sizeof decimal, (int64_t)(sizeof decimal - at) - 1, 0, negative,
                        typmod, out);
}

int32_t sp_read_numeric(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    sp_numeric *out = d->numeric;
    const uint8_t *whole = p;
    size_t whole_len = len;
    int modern = s->server_version >= 16;
    sp_trim(&p, &len);
    const uint8_t *end = p + len;
    if (sp_is_word(p, len, "nan"))
        return sp_numeric_special(out, SP_NUM_NAN, s, typmod);
    int negative = 0;
    if (p < end && (*p == '-' || *p == '+'))
        negative = *p++ == '-';
    size_t rest = (size_t)(end - p);
    if (sp_is_word(p, rest, "infinity") || sp_is_word(p, rest, "inf"))
        return sp_numeric_special(out, negative ? SP_NUM_NINF : SP_NUM_INF, s, typmod);

    int base = modern ? base_of(p, end) : 10;
    if (base != 10) {
        int32_t status = read_other_base(p + 2, end, (unsigned)base, negative, typmod, out);
        return status == SP_INVALID ? sp_refuse(s, whole, whole_len) : status;
    }

    const uint8_t *digits = p;
    int64_t integers = 0, decimals = 0, exponent = 0;
    int point = 0;
    if (p < end && *p == '.')
        point = 1, p++;
    if (p == end || !sp_is_digit(*p))
        return sp_refuse(s, whole, whole_len);
    for (; p < end; p++) {
        if (sp_is_digit(*p)) {
            *(point ? &decimals : &integers) += 1;
        } else if (*p == '.' && !point) {
            point = 1;
            if (modern && end - p >= 2 && p[1] == '_')
                return SP_INVALID;
        } else if (*p == '_' && modern) {
            if (end - p < 2 || !sp_is_digit(p[1]))
                return sp_refuse(s, whole, whole_len);
        } else {
            break;
        }
    }
    const uint8_t *digits_end = p;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (!modern && p < end && sp_is_space(*p))
            return SP_UNSUPPORTED; /* strtol skipped it */
        int minus = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        if (p == end || !sp_is_digit(*p))
            return sp_refuse(s, whole, whole_len);
        for (; p < end; p++) {
            if (*p == '_' && modern) {
                if (end - p < 2 || !sp_is_digit(p[1]))
                    return sp_refuse(s, whole, whole_len);
                continue;
            }
            if (!sp_is_digit(*p))
                break;
            exponent = exponent * 10 + (*p - '0');
            if (exponent > INT32_MAX / 2)
                return SP_INVALID;
        }
        if (exponent == INT32_MAX / 2) /* up to 15 already too large */
            return SP_UNSUPPORTED;
        exponent = minus ? -exponent : exponent;
    }
    if (p != end)
        return sp_refuse(s, whole, whole_len);
    return sp_numeric_of_digits(digits, digits_end, integers + exponent - 1, decimals - exponent, negative, typmod, out);
}

/* Digit `at` in groups of 10000 from the highest weight on; beyond those that are kept there are zeros. */
static uint32_t group_of(const sp_numeric *n, int64_t weight)
{
    int64_t at = n->weight - weight;
    return at >= 0 && at < (int64_t)n->ndigits ? n->digits[at] : 0;
}

/* get_str_from_var */
size_t sp_write_numeric(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    static const char *const words[] = {"-Infinity", "", "", "", "Infinity", "NaN"};
    const sp_numeric *n = d->numeric;
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    if (n->kind == SP_NUM_NAN || n->kind == SP_NUM_INF || n->kind == SP_NUM_NINF) {
        sp_put_word(&w, words[n->kind]);
        return w.len;
    }
    int64_t first = n->ndigits != 0 && n->weight > 0 ? n->weight : 0;
    if (n->kind == SP_NUM_NEG)
        sp_put(&w, '-');
    for (int64_t weight = first; weight >= 0; weight--)
        sp_put_integer(&w, group_of(n, weight), weight == first ? 1 : 4);
    if (n->scale != 0)
        sp_put(&w, '.');
    for (int32_t i = 0; i < n->scale; i++)
        sp_put(&w, (uint8_t)('0' + group_of(n, -1 - i / 4) / sp_powers_of_ten[3 - i % 4] % 10));
    return w.len;
}

/*
 * inet and cidr. Follows src/backend/utils/adt/network.c and inet_net_pton.c. The datum is PostgreSQL's inet_struct:
 * family, bits of the mask, address.
 */
#include "read.h"

enum { FAMILY_4 = 2, FAMILY_6 = 3 }; /* PGSQL_AF_INET, PGSQL_AF_INET6 */

static uint32_t address_bits(const sp_datum *d)
{
    return d->buf[0] == FAMILY_4 ? 32 : 128;
}

static int32_t keep(sp_datum *d, int family, uint32_t bits, int cidr)
{
    d->buf[0] = (uint8_t)family;
    d->buf[1] = (uint8_t)bits;
    d->data = d->buf;
    d->len = family == FAMILY_4 ? 6 : 18;
    if (cidr) /* addressOK: nothing is set to the right of the mask */
        for (uint32_t bit = bits; bit < address_bits(d); bit++)
            if (d->buf[2 + bit / 8] & 0x80 >> bit % 8)
                return SP_INVALID;
    return SP_OK;
}

/* A decimal number without leading zeros, of up to three digits; -1 for anything else. */
static int take_decimal(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *start = *p;
    int value = 0;
    while (*p < end && sp_is_digit(**p) && *p - start < 3)
        value = value * 10 + (*(*p)++ - '0');
    if (*p == start || (*p < end && sp_is_digit(**p)) || (*start == '0' && *p - start > 1))
        return -1;
    return value;
}

/* Four octets; SP_INVALID for one over 255. */
static int32_t take_octets(const uint8_t **p, const uint8_t *end, uint8_t out[4])
{
    int32_t status = SP_OK;
    for (int i = 0; i < 4; i++) {
        if (i != 0 && (*p == end || *(*p)++ != '.'))
            return SP_UNSUPPORTED;
        int octet = take_decimal(p, end);
        if (octet < 0)
            return SP_UNSUPPORTED;
        if (octet > 255)
            status = SP_INVALID;
        out[i] = (uint8_t)octet;
    }
    return status;
}

/* Nothing more, or the mask's bits. */
static int32_t take_bits(const uint8_t *p, const uint8_t *end, int most, int *bits)
{
    *bits = most;
    if (p == end)
        return SP_OK;
    if (*p++ != '/' || (*bits = take_decimal(&p, end)) < 0 || p != end)
        return SP_UNSUPPORTED;
    return *bits > most ? SP_INVALID : SP_OK;
}

/* The groups up to the mask, `::` once in place of zeros, the last two perhaps as four octets. */
static int32_t take_groups(const uint8_t **at, const uint8_t *end, uint8_t out[16])
{
    const uint8_t *p = *at;
    int n = 0, gap = -1;
    if (end - p >= 2 && p[0] == ':' && p[1] == ':') {
        gap = 0;
        p += 2;
    }
    while (p < end && *p != '/') {
        const uint8_t *start = p;
        uint32_t group = 0;
        while (p < end && sp_hex_digit(*p) >= 0 && p - start < 4)
            group = group << 4 | (uint32_t)sp_hex_digit(*p++);
        if (p < end && *p == '.' && n <= 12) {
            p = start;
            int32_t status = take_octets(&p, end, out + n);
            if (status != SP_OK)
                return SP_UNSUPPORTED;
            n += 4;
            break;
        }
        if (p == start || n == 16)
            return SP_UNSUPPORTED;
        out[n++] = (uint8_t)(group >> 8);
        out[n++] = (uint8_t)group;
        if (p == end || *p != ':')
            break;
        p++;
        if (p < end && *p == ':' && gap < 0) {
            gap = n;
            p++;
        } else if (p == end || *p == '/') {
            return SP_UNSUPPORTED;
        }
    }
    if ((gap < 0) != (n == 16))
        return SP_UNSUPPORTED;
    if (gap >= 0) {
        memmove(out + 16 - (n - gap), out + gap, (size_t)(n - gap));
        memset(out + gap, 0, (size_t)(16 - n));
    }
    *at = p;
    return SP_OK;
}

/* Not read: fewer than four octets (10/8), hexadecimal cidr, leading zeros. */
static int32_t read_network(int cidr, const uint8_t *p, size_t len, sp_datum *d)
{
    const uint8_t *end = p + len;
    int letters = 0, six = 0, bits;
    for (size_t i = 0; i < len; i++) {
        if (p[i] == 0 || (sp_hex_digit(p[i]) < 0 && strchr(".:/xX", p[i]) == NULL))
            return SP_INVALID;
        letters |= sp_hex_digit(p[i]) > 9 || sp_lower(p[i]) == 'x';
        six |= p[i] == ':';
    }
    int hexadecimal = cidr && len >= 2 && p[0] == '0' && sp_lower(p[1]) == 'x';
    if (len == 0 || (!six && letters && !hexadecimal))
        return SP_INVALID;
    int32_t status = six ? take_groups(&p, end, d->buf + 2) : take_octets(&p, end, d->buf + 2);
    if (status == SP_UNSUPPORTED)
        return status;
    int32_t mask = take_bits(p, end, six ? 128 : 32, &bits);
    if (mask != SP_OK)
        return mask;
    return status != SP_OK ? status : keep(d, six ? FAMILY_6 : FAMILY_4, (uint32_t)bits, cidr);
}

int32_t sp_read_inet(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    return read_network(0, p, len, d);
}

int32_t sp_read_cidr(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    return read_network(1, p, len, d);
}

/* network_recv: family, bits, whether it is a cidr (which does not count), the address and its length. */
static int32_t receive_network(int cidr, const uint8_t *p, size_t len, sp_datum *d)
{
    if (len < 4 || (p[0] != FAMILY_4 && p[0] != FAMILY_6))
        return SP_INVALID;
    size_t size = p[0] == FAMILY_4 ? 4 : 16;
    if (p[1] > 8 * size || p[3] != size || len != 4 + size)
        return SP_INVALID;
    memcpy(d->buf + 2, p + 4, size);
    return keep(d, p[0], p[1], cidr);
}

int32_t sp_receive_inet(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    return receive_network(0, p, len, d);
}

int32_t sp_receive_cidr(const sp_settings *s, int32_t typmod, const uint8_t *p, size_t len, sp_datum *d)
{
    (void)s, (void)typmod;
    return receive_network(1, p, len, d);
}

/* network_cmp_internal: the family, the network's bits that both have, the shorter network, the whole address. */
size_t sp_canonical_network(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)out;
    sp_writer w = {buf, cap, 0};
    sp_put(&w, d->buf[0]);
    for (uint32_t bit = 0; bit < d->buf[1]; bit++)
        sp_put(&w, d->buf[2 + bit / 8] & 0x80 >> bit % 8 ? 2 : 1);
    sp_put(&w, 0);
    for (uint32_t i = 0; i < address_bits(d) / 8; i++)
        sp_put(&w, d->buf[2 + i]);
    return w.len;
}

static void put_octets(sp_writer *w, const uint8_t *address)
{
    for (int i = 0; i < 4; i++) {
        if (i != 0)
            sp_put(w, '.');
        sp_put_integer(w, address[i], 1);
    }
}

/* As pg_inet_net_ntop: `::` for the first of the longest runs of zeros, an embedded version 4 address as octets. */
static void put_groups(sp_writer *w, const uint8_t *address)
{
    int best = -1, longest = 1;
    for (int i = 0; i < 8; i++) {
        int n = 0;
        while (i + n < 8 && sp_load_be16(address + 2 * (i + n)) == 0)
            n++;
        if (n > longest)
            best = i, longest = n;
    }
    int embedded = best == 0 && (longest == 6 || (longest == 5 && sp_load_be16(address + 10) == 0xFFFF));
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            sp_put_word(w, "::");
            i += longest - 1;
            continue;
        }
        if (i != 0 && i != best + longest)
            sp_put(w, ':');
        if (embedded && i == 6) {
            put_octets(w, address + 12);
            return;
        }
        uint32_t group = sp_load_be16(address + 2 * i);
        for (int shift = 12; shift >= 0; shift -= 4)
            if (group >> shift != 0 || shift == 0)
                sp_put(w, (uint8_t)"0123456789abcdef"[group >> shift & 15]);
    }
}

static size_t write_network(const sp_datum *d, int cidr, uint8_t *buf, size_t cap)
{
    sp_writer w = {buf, cap, 0};
    (d->buf[0] == FAMILY_4 ? put_octets : put_groups)(&w, d->buf + 2);
    if (cidr || d->buf[1] != address_bits(d)) {
        sp_put(&w, '/');
        sp_put_integer(&w, d->buf[1], 1);
    }
    return w.len;
}

size_t sp_write_inet(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_network(d, 0, buf, cap);
}

size_t sp_write_cidr(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    return write_network(d, 1, buf, cap);
}

#include "numeric.h"
#include "types.h"

#define SP_TYPE(code, r, v, h, c, w, ...)                                                                        \
    [SP_KEY_##code] = {.read = r, .receive = v, .hash = h, .canonical = c, .write = w, __VA_ARGS__},
const sp_type sp_types[] = {
#include "types.def"
};
#undef SP_TYPE

static const uint8_t nothing[1] = {0};

int sp_keytype_ok(sp_keytype type)
{
    return type.code >= 1 && type.code <= SP_KEY_LAST;
}

static inline int32_t read_value(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, sp_datum *d)
{
    const sp_type *t = &sp_types[type.code];
    return (binary ? t->receive : t->read)(s, type.typmod, v->len != 0 ? v->data : nothing, v->len, d);
}

static inline int32_t hash_value(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash,
                                 sp_numeric *n)
{
    sp_datum d = {.numeric = n};
    int32_t status = read_value(type, s, v, binary, &d);
    if (status == SP_OK)
        *hash = sp_types[type.code].hash(&d);
    return status;
}

static inline int32_t canonical_value(sp_keytype type, const sp_settings *s, const sp_value *v, int binary,
                                      uint8_t *buf, size_t cap, const uint8_t **out, size_t *len, sp_numeric *n)
{
    sp_datum d = {.numeric = n};
    int32_t status = read_value(type, s, v, binary, &d);
    *out = buf;
    if (status == SP_OK)
        *len = sp_types[type.code].canonical(&d, buf, cap, out);
    return status;
}

static inline int32_t text_of_value(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf,
                                    size_t cap, const uint8_t **out, size_t *len, sp_numeric *n)
{
    sp_datum d = {.numeric = n};
    int32_t status = read_value(type, s, v, binary, &d);
    *out = buf;
    if (status == SP_OK)
        *len = sp_types[type.code].write(&d, type.typmod, buf, cap, out);
    return status;
}

/* Kept out of line: a numeric's digits take a large stack frame that other types should not pay for. */
#define WIDE static __attribute__((noinline)) int32_t

WIDE hash_wide(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash)
{
    sp_numeric n;
    return hash_value(type, s, v, binary, hash, &n);
}

WIDE canonical_wide(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf, size_t cap,
                    const uint8_t **out, size_t *len)
{
    sp_numeric n;
    return canonical_value(type, s, v, binary, buf, cap, out, len, &n);
}

WIDE text_wide(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf, size_t cap,
               const uint8_t **out, size_t *len)
{
    sp_numeric n;
    return text_of_value(type, s, v, binary, buf, cap, out, len, &n);
}

int32_t sp_key_hash(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash)
{
    if (sp_types[type.code].wide)
        return hash_wide(type, s, v, binary, hash);
    return hash_value(type, s, v, binary, hash, NULL);
}

int32_t sp_key_canonical(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf,
                         size_t cap, const uint8_t **out, size_t *len)
{
    if (sp_types[type.code].wide)
        return canonical_wide(type, s, v, binary, buf, cap, out, len);
    return canonical_value(type, s, v, binary, buf, cap, out, len, NULL);
}

int32_t sp_key_text(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf, size_t cap,
                    const uint8_t **out, size_t *len)
{
    if (sp_types[type.code].wide)
        return text_wide(type, s, v, binary, buf, cap, out, len);
    return text_of_value(type, s, v, binary, buf, cap, out, len, NULL);
}

/* ---- what several types share: one integer, or bytes that are compared as they are ---- */

uint64_t sp_hash_integer(const sp_datum *d)
{
    return sp_hash_int64(d->integer, SP_HASH_SEED);
}

/* Big-endian with the sign flipped sorts as the numbers do. */
size_t sp_canonical_integer(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)cap, (void)out;
    sp_store_be64(buf, (uint64_t)d->integer ^ UINT64_C(1) << 63);
    return 8;
}

size_t sp_write_integer(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod, (void)out;
    sp_writer w = {buf, cap, 0};
    sp_put_integer(&w, d->integer, 1);
    return w.len;
}

uint64_t sp_hash_data(const sp_datum *d)
{
    return sp_hash_bytes(d->data, d->len, SP_HASH_SEED);
}

size_t sp_canonical_data(const sp_datum *d, uint8_t *buf, size_t cap, const uint8_t **out)
{
    if (d->data == d->buf)
        memcpy(buf, d->buf, d->len < cap ? d->len : cap);
    else
        *out = d->data;
    return d->len;
}

size_t sp_write_data(const sp_datum *d, int32_t typmod, uint8_t *buf, size_t cap, const uint8_t **out)
{
    (void)typmod;
    return sp_canonical_data(d, buf, cap, out);
}

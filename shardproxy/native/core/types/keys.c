#include "hash.h"
#include "keys.h"

static const uint8_t nothing[1] = {0};

int sp_keytype_ok(sp_keytype type)
{
    return type.code >= SP_KEY_INT2 && type.code <= SP_KEY_LAST;
}

/* Network-order integers of exactly this width. */
static int32_t recv_int(const uint8_t *p, size_t len, size_t width, int64_t *out)
{
    if (len != width)
        return SP_INVALID;
    if (width == 8)
        *out = sp_signed64(sp_load_be64(p));
    else if (width == 4)
        *out = sp_signed32(sp_load_be32(p));
    else
        *out = sp_signed32(sp_load_be16(p) << 16) >> 16;
    return SP_OK;
}

int32_t sp_read_fixed(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, int64_t *out)
{
    const uint8_t *p = v->len != 0 ? v->data : nothing;
    size_t len = v->len;
    switch (type.code) {
    case SP_KEY_INT2:
        return binary ? recv_int(p, len, 2, out) : sp_read_int(s, p, len, INT16_MIN, INT16_MAX, out);
    case SP_KEY_INT4:
        return binary ? recv_int(p, len, 4, out) : sp_read_int(s, p, len, INT32_MIN, INT32_MAX, out);
    case SP_KEY_INT8:
        return binary ? recv_int(p, len, 8, out) : sp_read_int(s, p, len, INT64_MIN, INT64_MAX, out);
    case SP_KEY_BOOL:
        if (!binary)
            return sp_read_bool(s, p, len, out);
        *out = len == 1 && *p != 0;
        return len == 1 ? SP_OK : SP_INVALID;
    case SP_KEY_DATE:
        return binary ? sp_recv_date(p, len, out) : sp_read_date(s, p, len, out);
    case SP_KEY_TIMESTAMP:
    case SP_KEY_TIMESTAMPTZ:
        if (binary)
            return sp_recv_timestamp(p, len, type.typmod, out);
        return sp_read_timestamp(s, p, len, type.code == SP_KEY_TIMESTAMPTZ, type.typmod, out);
    default:
        return SP_UNSUPPORTED;
    }
}

static int32_t read_uuid(const uint8_t *p, size_t len, int binary, uint8_t out[16])
{
    if (!binary)
        return sp_read_uuid(p, len, out);
    if (len != 16)
        return SP_INVALID;
    memcpy(out, p, 16);
    return SP_OK;
}

/* Kept out of line: the digits take a large stack frame that other types should not pay for. */
static __attribute__((noinline)) int32_t hash_numeric(sp_keytype type, const sp_settings *s, const uint8_t *p,
                                                      size_t len, int binary, uint64_t *hash)
{
    sp_numeric n;
    int32_t status = binary ? sp_recv_numeric(s, p, len, type.typmod, &n)
                            : sp_read_numeric(s, p, len, type.typmod, &n);
    if (status == SP_OK)
        *hash = sp_hash_numeric(&n, SP_HASH_SEED);
    return status;
}

static __attribute__((noinline)) int32_t canonical_numeric(sp_keytype type, const sp_settings *s,
                                                           const uint8_t *p, size_t len, int binary, uint8_t *buf,
                                                           size_t cap, size_t *out_len)
{
    sp_numeric n;
    int32_t status = binary ? sp_recv_numeric(s, p, len, type.typmod, &n)
                            : sp_read_numeric(s, p, len, type.typmod, &n);
    if (status == SP_OK)
        *out_len = sp_canonical_numeric(&n, buf, cap);
    return status;
}

int32_t sp_key_hash(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t *hash)
{
    const uint8_t *p = v->len != 0 ? v->data : nothing;
    size_t len = v->len;
    int32_t status;
    switch (type.code) {
    case SP_KEY_TEXT:
    case SP_KEY_BPCHAR:
        status = type.code == SP_KEY_TEXT ? sp_read_text(s, p, len, type.typmod, &len)
                                          : sp_read_bpchar(s, p, len, type.typmod, &len);
        if (status == SP_OK)
            *hash = sp_hash_bytes(p, len, SP_HASH_SEED);
        return status;
    case SP_KEY_UUID: {
        uint8_t uuid[16];
        status = read_uuid(p, len, binary, uuid);
        if (status == SP_OK)
            *hash = sp_hash_bytes(uuid, 16, SP_HASH_SEED);
        return status;
    }
    case SP_KEY_BYTEA: {
        sp_bytea it;
        size_t decoded;
        status = sp_bytea_open(p, len, binary, &it, &decoded);
        if (status != SP_OK)
            return status;
        if (binary) {
            *hash = sp_hash_bytes(p, len, SP_HASH_SEED);
            return SP_OK;
        }
        sp_hash_stream stream;
        uint8_t byte;
        sp_hash_stream_start(&stream, decoded, SP_HASH_SEED);
        while (sp_bytea_next(&it, &byte))
            sp_hash_stream_byte(&stream, byte);
        *hash = sp_hash_stream_end(&stream);
        return SP_OK;
    }
    case SP_KEY_NUMERIC:
        return hash_numeric(type, s, p, len, binary, hash);
    default: {
        int64_t value;
        status = sp_read_fixed(type, s, v, binary, &value);
        if (status != SP_OK)
            return status;
        int wide = type.code == SP_KEY_INT8 || type.code == SP_KEY_TIMESTAMP || type.code == SP_KEY_TIMESTAMPTZ;
        *hash = wide ? sp_hash_int64(value, SP_HASH_SEED) : sp_hash_uint32((uint32_t)value, SP_HASH_SEED);
        return SP_OK;
    }
    }
}

static size_t fixed_width(int32_t code)
{
    switch (code) {
    case SP_KEY_BOOL:
        return 1;
    case SP_KEY_INT2:
        return 2;
    case SP_KEY_INT4:
    case SP_KEY_DATE:
        return 4;
    default:
        return 8;
    }
}

int32_t sp_key_canonical(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint8_t *buf,
                         size_t cap, const uint8_t **out, size_t *out_len)
{
    const uint8_t *p = v->len != 0 ? v->data : nothing;
    size_t len = v->len;
    int32_t status;
    *out = buf;
    switch (type.code) {
    case SP_KEY_TEXT:
    case SP_KEY_BPCHAR:
        *out = p;
        return type.code == SP_KEY_TEXT ? sp_read_text(s, p, len, type.typmod, out_len)
                                        : sp_read_bpchar(s, p, len, type.typmod, out_len);
    case SP_KEY_UUID:
        *out_len = 16;
        return read_uuid(p, len, binary, buf);
    case SP_KEY_BYTEA: {
        sp_bytea it;
        status = sp_bytea_open(p, len, binary, &it, out_len);
        if (status == SP_OK)
            for (size_t i = 0; i < cap && sp_bytea_next(&it, buf + i); i++)
                ;
        return status;
    }
    case SP_KEY_NUMERIC:
        return canonical_numeric(type, s, p, len, binary, buf, cap, out_len);
    default: {
        int64_t value;
        status = sp_read_fixed(type, s, v, binary, &value);
        if (status != SP_OK)
            return status;
        /* Big-endian with the sign flipped sorts as the numbers do. */
        size_t width = fixed_width(type.code);
        uint64_t bits = (uint64_t)value ^ (width == 1 ? 0 : UINT64_C(1) << (8 * width - 1));
        for (size_t i = 0; i < width; i++)
            buf[i] = (uint8_t)(bits >> (8 * (width - 1 - i)));
        *out_len = width;
        return SP_OK;
    }
    }
}

/* A key column's type and one value of it, as splitting and placement hand them on. */
#ifndef SP_VALUE_H
#define SP_VALUE_H

#include <stddef.h>
#include <stdint.h>

/* Key types by name, in the order of types.def, from 1 on. */
enum {
    SP_KEY_NONE,
#define SP_TYPE(code, ...) SP_KEY_##code,
#include "types.def"
#undef SP_TYPE
    SP_KEY_END,
    SP_KEY_LAST = SP_KEY_END - 1
};

typedef struct {
    const uint8_t *data; /* text: unescaped, in the server's encoding; binary: the field's bytes */
    size_t len;
    int is_null;
} sp_value;

typedef struct {
    int32_t code;   /* SP_KEY_... */
    int32_t typmod; /* pg_attribute.atttypmod, -1 for none */
} sp_keytype;

/* How characters are counted in the server's encoding, for varchar(n) and char(n). */
enum {
    SP_ENC_UTF8 = 0,
    SP_ENC_SINGLE = 1, /* one byte, one character (SQL_ASCII too) */
    SP_ENC_OTHER = 2   /* EUC_xx, MULE_INTERNAL: not counted here */
};

typedef struct {
    int32_t server_version; /* major: 16 reads 0x1F and 1_000 */
    int32_t encoding;       /* SP_ENC_... */
    int32_t utc;            /* nonzero: the session's TimeZone is UTC, so a timestamptz without offset is known */
} sp_settings;

/* What reading a value answers. */
enum {
    SP_OK = 0,
    SP_INVALID = -2,    /* PostgreSQL certainly refuses it: any shard reports it in its own words */
    SP_UNSUPPORTED = -3 /* what PostgreSQL would read is not known here (DateStyle, TimeZone, ...): refuse it */
};

#endif

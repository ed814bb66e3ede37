/* Integers in network byte order, and the header of a protocol message. */
#ifndef SP_NETWORK_ORDER_H
#define SP_NETWORK_ORDER_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sp_load_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t sp_load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t sp_load_be64(const uint8_t *p)
{
    return (uint64_t)sp_load_be32(p) << 32 | sp_load_be32(p + 4);
}

static inline void sp_store_be32(uint8_t *p, uint32_t bits)
{
    p[0] = (uint8_t)(bits >> 24);
    p[1] = (uint8_t)(bits >> 16);
    p[2] = (uint8_t)(bits >> 8);
    p[3] = (uint8_t)bits;
}

static inline void sp_store_be64(uint8_t *p, uint64_t bits)
{
    sp_store_be32(p, (uint32_t)(bits >> 32));
    sp_store_be32(p + 4, (uint32_t)bits);
}

/* Two's complement without the conversion that C leaves to the implementation. */
static inline int64_t sp_signed64(uint64_t u)
{
    int64_t v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline int32_t sp_signed32(uint32_t u)
{
    int32_t v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline int32_t sp_signed16(uint32_t u)
{
    return sp_signed32(u << 16) >> 16;
}

/* Manual: "Message Formats": a type byte, then an int32 length that counts itself but not the type. */
enum { SP_MESSAGE_HEADER = 5 };

static inline uint32_t sp_message_length(const uint8_t *message)
{
    return sp_load_be32(message + 1);
}

static inline void sp_message_header(uint8_t *out, uint8_t type, uint32_t length)
{
    out[0] = type;
    sp_store_be32(out + 1, length);
}

#endif

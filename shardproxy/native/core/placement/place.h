/* What the placements share; internal to the core, the boundary is placement.h. */
#ifndef SP_PLACE_H
#define SP_PLACE_H

#include "placement.h"

/* Fills the error and returns NULL, for `return sp_build_failed(...)`. */
sp_placement *sp_build_failed(sp_build_error *error, int32_t code, size_t index, size_t other, size_t column);

/* A zeroed placement of `size` bytes with one reference; base is its first member. */
typedef struct sp_base {
    sp_placement pub;
    void (*destroy)(struct sp_base *self); /* what the placement owns besides its own memory; may be NULL */
    uint32_t references;
    sp_settings settings;
} sp_base;

sp_base *sp_base_new(size_t size, uint32_t nshards, uint32_t nkeys);

#endif

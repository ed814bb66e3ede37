/* Which of the loops over bytes run: the best the processor has, or the one that was asked for by name. */
#include <stdlib.h>
#include <string.h>

#include "masks_parts.h"

typedef struct {
    const char *name;
    sp_mask_fn *masks;
    sp_integers_fn *integers;
} path;

static path paths[5];
static const char *names[6];
static size_t npaths;
static const char *active;

static void masks_first(const sp_mask_spec *spec, sp_mask_state *st, const uint8_t *p, size_t n, sp_masks *out);

sp_mask_fn *sp_masks_run = masks_first;
sp_integers_fn *sp_integers_run = sp_integers_plain; /* keys are read after the first bitmaps */

static void add(const char *name, sp_mask_fn *masks, sp_integers_fn *integers)
{
    names[npaths] = name;
    paths[npaths++] = (path){name, masks, integers};
}

static void find_paths(void)
{
    if (npaths)
        return;
#ifdef SP_HAVE_X86
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (avx2 && __builtin_cpu_supports("avx512bw"))
        add("avx512", sp_masks_avx512, sp_integers_avx2);
    if (avx2)
        add("avx2", sp_masks_avx2, sp_integers_avx2);
    add("sse2", sp_masks_sse2, sp_integers_plain);
#endif
#ifdef SP_HAVE_NEON
    add("neon", sp_masks_neon, sp_integers_plain);
#endif
    add("plain", sp_masks_plain, sp_integers_plain);
}

static int choose(const char *name)
{
    find_paths();
    for (size_t i = 0; i < npaths; i++) {
        if (!name || strcmp(name, paths[i].name) == 0) {
            active = paths[i].name;
            sp_masks_run = paths[i].masks;
            sp_integers_run = paths[i].integers;
            return 0;
        }
    }
    return -1;
}

int sp_simd_force(const char *name)
{
    return choose(name);
}

const char *sp_simd_name(void)
{
    /* An unknown name in the environment falls back to the best path. */
    if (!active && choose(getenv("SHARDPROXY_SIMD")))
        choose(NULL);
    return active;
}

const char *const *sp_simd_names(void)
{
    find_paths();
    return names;
}

static void masks_first(const sp_mask_spec *spec, sp_mask_state *st, const uint8_t *p, size_t n, sp_masks *out)
{
    sp_simd_name();
    sp_masks_run(spec, st, p, n, out);
}

uint64_t sp_masks_escape_block(const sp_mask_spec *spec, sp_mask_state *st, const uint8_t *p, uint64_t valid)
{
    uint64_t hidden = 0, in_quote = st->in_quote & 1, escaped = st->escaped;
    for (int i = 0; i < 64 && valid >> i & 1; i++) {
        uint8_t c = p[i];
        if (in_quote && c == spec->escape)
            escaped = !escaped;
        else {
            if (c == spec->quote && !escaped)
                in_quote = !in_quote;
            escaped = 0;
        }
        hidden |= in_quote << i;
    }
    st->in_quote = in_quote ? ~0ULL : 0;
    st->escaped = escaped;
    return hidden;
}

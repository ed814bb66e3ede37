/*
 * The bitmaps of 64 bytes, written once over three things each instruction set provides:
 *   SP_BLOCK, SP_LOAD(b, p), SP_EQUAL(b, c) -> uint64_t, SP_PREFIX_XOR(x) -> uint64_t, SP_TARGET, SP_NAME
 */

/* Bytes after an odd run of backslashes; every backslash escapes, so this needs no loop. */
SP_TARGET static inline uint64_t SP_PASTE(escaped_, SP_NAME)(uint64_t backslash, uint64_t *carry)
{
    const uint64_t even = 0x5555555555555555ULL;
    backslash &= ~*carry;
    uint64_t follows = backslash << 1 | *carry;
    uint64_t odd_starts = backslash & ~even & ~follows;
    uint64_t sequences;
    *carry = __builtin_add_overflow(odd_starts, backslash, &sequences);
    return (even ^ (sequences << 1)) & follows;
}

SP_TARGET static inline void SP_PASTE(block_, SP_NAME)(const sp_mask_spec *spec, int csv, int eol, sp_mask_state *st,
                                                      const uint8_t *p, size_t word, uint64_t valid, sp_masks *out)
{
    SP_BLOCK b;
    SP_LOAD(b, p);
    uint64_t hidden, marked, special = 0;
    if (csv) {
        marked = SP_EQUAL(b, spec->quote) & valid;
        if (spec->escape != spec->quote) {
            uint64_t escape = SP_EQUAL(b, spec->escape) & valid;
            if (__builtin_expect((escape | st->escaped) != 0, 0)) {
                marked |= escape;
                hidden = sp_masks_escape_block(spec, st, p, valid);
            } else {
                hidden = SP_PREFIX_XOR(marked) ^ st->in_quote;
                st->in_quote = (uint64_t)((int64_t)hidden >> 63);
            }
        } else {
            hidden = SP_PREFIX_XOR(marked) ^ st->in_quote;
            st->in_quote = (uint64_t)((int64_t)hidden >> 63);
        }
    } else {
        marked = SP_EQUAL(b, '\\') & valid;
        hidden = 0;
        if (marked | st->escaped) {
            hidden = SP_PASTE(escaped_, SP_NAME)(marked, &st->escaped);
            special = hidden & SP_EQUAL(b, '.');
        }
    }
    uint64_t shown = ~hidden & valid;
    uint64_t lf = SP_EQUAL(b, '\n'), cr = SP_EQUAL(b, '\r'), newline, inner;
    if (eol == 1) { /* SP_EOL_NL */
        newline = lf & shown;
        special |= cr & shown;
        inner = lf;
    } else if (eol == 2) { /* SP_EOL_CR */
        newline = cr & shown;
        special |= lf & shown;
        inner = cr;
    } else {
        uint64_t before = cr & shown;
        newline = lf & shown;
        special |= (newline ^ (before << 1 | st->carriage)) & valid;
        st->carriage = before >> 63;
        st->last_carriage = before;
        inner = cr;
    }
    st->last_hidden = hidden;
    out->newline[word] = newline;
    out->delimiter[word] = SP_EQUAL(b, spec->delimiter) & shown;
    if (csv) {
        inner &= hidden & valid;
        out->embedded[word] = inner;
        out->any_embedded |= inner;
    }
    out->any_marked |= marked;
    if (__builtin_expect(special != 0, 0) && out->special == SIZE_MAX)
        out->special = word * 64 + (size_t)__builtin_ctzll(special);
}

SP_TARGET static inline void SP_PASTE(loop_, SP_NAME)(const sp_mask_spec *spec, int csv, int eol, sp_mask_state *st,
                                                     const uint8_t *p, size_t n, sp_masks *out)
{
    sp_mask_state state = *st;
    size_t word = 0;
    for (; n >= 64; n -= 64, p += 64, word++)
        SP_PASTE(block_, SP_NAME)(spec, csv, eol, &state, p, word, ~0ULL, out);
    if (n) {
        uint8_t last[64] = {0};
        memcpy(last, p, n);
        SP_PASTE(block_, SP_NAME)(spec, csv, eol, &state, last, word, (1ULL << n) - 1, out);
        if (!csv)
            state.escaped = state.last_hidden >> n & 1;
        if (eol == 3)
            state.carriage = state.last_carriage >> (n - 1) & 1;
    }
    out->delimiter[word + (n != 0)] = 0;
    *st = state;
}

SP_TARGET void SP_PASTE(sp_masks_, SP_NAME)(const sp_mask_spec *spec, sp_mask_state *st, const uint8_t *p, size_t n,
                                            sp_masks *out)
{
    out->any_embedded = out->any_marked = 0;
    out->special = SIZE_MAX;
    /* Constants for the compiler: the ordinary newline has a loop of its own. */
    if (spec->csv && spec->eol == 1)
        SP_PASTE(loop_, SP_NAME)(spec, 1, 1, st, p, n, out);
    else if (spec->csv)
        SP_PASTE(loop_, SP_NAME)(spec, 1, spec->eol, st, p, n, out);
    else if (spec->eol == 1)
        SP_PASTE(loop_, SP_NAME)(spec, 0, 1, st, p, n, out);
    else
        SP_PASTE(loop_, SP_NAME)(spec, 0, spec->eol, st, p, n, out);
}

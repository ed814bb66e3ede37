/*
 * The loop of sp_integers_fn, written once over SP_NAME, SP_TARGET and SP_READ_16(p, len, out), which is
 * sp_read_16_digits() or does the same: it reads 17 bytes at p.
 *
 * There is no branch on a key's length or a row's: no processor could predict it.
 */

/* 64 bits of a bitmap from any bit on. */
SP_TARGET static inline uint64_t SP_PASTE(bits_from_, SP_NAME)(const uint64_t *words, size_t at)
{
    const uint64_t *w = words + (at >> 6);
    return w[0] >> (at & 63) | (w[1] << 1) << (~at & 63);
}

SP_TARGET __attribute__((always_inline)) static inline size_t
SP_PASTE(keys_, SP_NAME)(const sp_integers_spec *spec, int32_t field, const uint64_t *delimiter, const uint8_t *base,
                         size_t readable, size_t at, const uint32_t *ends, size_t n, uint64_t *hashes, uint16_t *others)
{
    const unsigned spare = 64 - spec->bits;
    const size_t after = 1 - (size_t)spec->newline;
    int64_t values[SP_BATCH_MOST];
    size_t nothers = 0;
    for (size_t i = 0; i < n; i++) {
        size_t begin = at, end = ends[i] + after;
        uint64_t bits = SP_PASTE(bits_from_, SP_NAME)(delimiter, at);
        int plain = 1;
        for (int32_t k = 0; k < field; k++) {
            plain &= bits != 0;
            begin = at + (size_t)__builtin_ctzll(bits | 1ULL << 63) + 1;
            bits &= bits - 1;
        }
        /* Where these 64 bits do not reach, a delimiter may be among the bytes up to the row's end; it is no digit. */
        size_t stop = at + (bits ? (size_t)__builtin_ctzll(bits) : SP_MASK_BYTES);
        stop = stop < end ? stop : end;
        int64_t value = 0;
        if (__builtin_expect(begin + 17 <= readable, 1)) {
            size_t len = stop - begin; /* wraps around where there is no such field */
            int read = SP_READ_16(base + begin, len, &value);
            if (__builtin_expect(len - 17 < 4, 0)) /* up to a sign and 19 digits */
                read = sp_read_digits(base + begin, len, &value);
            plain &= read;
        } else
            plain = 0;
        plain &= (int64_t)((uint64_t)value << spare) >> spare == value;
        values[i] = value;
        others[nothers] = (uint16_t)i;
        nothers += !plain;
        at = ends[i] + 1;
    }
    /* In steps of 32 bits over an array, which compilers turn into vector instructions. */
    for (size_t i = 0; i < n; i++)
        hashes[i] = sp_hash_int64(values[i], SP_HASH_SEED);
    return nothers;
}

SP_TARGET size_t SP_PASTE(sp_integers_, SP_NAME)(const sp_integers_spec *spec, const uint64_t *delimiter,
                                                 const uint8_t *base, size_t readable, size_t at, const uint32_t *ends,
                                                 size_t n, uint64_t *hashes, uint16_t *others)
{
    /* A constant for the compiler: most tables' key is their first column. */
    if (spec->field == 0)
        return SP_PASTE(keys_, SP_NAME)(spec, 0, delimiter, base, readable, at, ends, n, hashes, others);
    return SP_PASTE(keys_, SP_NAME)(spec, spec->field, delimiter, base, readable, at, ends, n, hashes, others);
}

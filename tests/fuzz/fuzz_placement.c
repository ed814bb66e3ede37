/*
 * Fuzz target of key parsing and placement, for libFuzzer; with -DSTANDALONE it has its own main(), which damages
 * spellings at random from a seed: fuzz_placement ROUNDS [SEED].
 *
 * Holds: an answer is a shard or one of the codes; a cut-off canonical form is a prefix of the whole one; a value
 * is found in a list that holds it; it is not below itself in a range; the text that is written of it is read as the
 * same value.
 */
#include "placement/placement.h"
#include "require.h"
#include "types/types.h"

#include <string.h>

static uint8_t *exact_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1); /* its own block, so that a read behind its end is seen */
    REQUIRE(copy != NULL);
    if (len != 0)
        memcpy(copy, data, len);
    return copy;
}

/* Padding of a char(n) apart, a text is at most a numeric's digits or two for each byte. */
static void check_text(sp_keytype type, const sp_settings *s, const sp_value *v, int binary, uint64_t hash)
{
    size_t cap = 160000 + 2 * v->len, len;
    uint8_t *buf = malloc(cap);
    const uint8_t *out;
    uint64_t again;
    REQUIRE(buf != NULL);
    REQUIRE(sp_key_text(type, s, v, binary, buf, cap, &out, &len) == SP_OK);
    if (out != buf || len <= cap) {
        sp_value text = {exact_copy(out, len), len, 0};
        int32_t status = sp_key_hash(type, s, &text, 0, &again);
        /* up to 14 an interval's hours are an int where they are read */
        REQUIRE(status == SP_OK || (status == SP_UNSUPPORTED && s->server_version < 15));
        REQUIRE(status != SP_OK || again == hash);
        free((void *)(uintptr_t)text.data);
    }
    free(buf);
}

static void check_value(sp_keytype type, const sp_settings *s, const sp_value *v, int binary)
{
    sp_build_error error;
    uint32_t nshards = (uint32_t)(v->len % 9) + 1;
    sp_placement *hash = sp_placement_hash(nshards, &type, 1, s, &error);
    REQUIRE(hash != NULL);
    int32_t shard = sp_place(hash, v, binary);
    REQUIRE(shard == SP_INVALID || shard == SP_UNSUPPORTED || (shard >= 0 && (uint32_t)shard < nshards));
    sp_placement_release(hash);

    size_t cap = 80000 + v->len, len, short_len;
    uint8_t *whole = malloc(cap), part[16];
    const uint8_t *out, *short_out;
    REQUIRE(whole != NULL);
    int32_t status = sp_key_canonical(type, s, v, binary, whole, cap, &out, &len);
    REQUIRE((status == SP_OK) == (shard >= 0));
    REQUIRE(sp_key_canonical(type, s, v, binary, part, sizeof part, &short_out, &short_len) == status);
    if (status == SP_OK) {
        REQUIRE(len == short_len);
        REQUIRE(len == 0 || memcmp(out, short_out, len < sizeof part ? len : sizeof part) == 0);
    }
    free(whole);
    uint64_t bits;
    REQUIRE(sp_key_hash(type, s, v, binary, &bits) == status);
    if (status == SP_OK)
        check_text(type, s, v, binary, bits);
    if (binary)
        return;

    int32_t at = 2;
    sp_placement *list = sp_placement_list(3, type, v, &at, 1, 1, s, &error);
    REQUIRE((list != NULL) == (status == SP_OK) || error.code == SP_BUILD_TOO_LONG);
    if (list != NULL)
        REQUIRE(sp_place(list, v, 0) == 2);
    sp_placement_release(list);

    sp_bound from = {SP_BOUND_VALUE, *v}, to = {SP_BOUND_MAXVALUE, {NULL, 0, 0}};
    sp_placement *range = sp_placement_range(3, &type, 1, &from, &to, &at, 1, SP_NO_DEFAULT, s, &error);
    REQUIRE((range != NULL) == (status == SP_OK) || error.code == SP_BUILD_TOO_LONG);
    if (range != NULL)
        REQUIRE(sp_place(range, v, 0) == 2);
    sp_placement_release(range);
    REQUIRE(sp_placement_range(3, &type, 1, &from, &from, &at, 1, SP_NO_DEFAULT, s, &error) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t versions[] = {13, 14, 15, 16, 17, 18};
    static const int32_t typmods[] = {-1, 0, 3, 4, 9, (8 << 16 | 2) + 4, (6 << 16 | 0x7FD) + 4, (3 << 16 | 7) + 4};
    if (size < 3)
        return 0;
    sp_keytype type = {data[0] % SP_KEY_LAST + 1, typmods[data[1] % 8]};
    sp_settings s = {versions[data[2] % 6], data[2] / 6 % 3, data[2] / 18 % 2};
    int binary = data[1] / 8 % 2;
    sp_value v = {exact_copy(data + 3, size - 3), size - 3, 0};
    check_value(type, &s, &v, binary);
    free((void *)(uintptr_t)v.data);
    return 0;
}

#ifdef STANDALONE
static uint64_t state;

static uint32_t below(uint32_t n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32) % n;
}

int main(int argc, char **argv)
{
    static const char *const seeds[] = {
        "-9223372036854775808", "0x7fff_ffff", " +12 ", "0b1011", "32768", "1234567890123456789012",
        "{A0EEBC99-9C0B4EF8-BB6D6BB9BD38-0A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "true", "of",
        "2024-02-29 23:59:60.999999499+05:30", "4714-11-24T00:00:00Z BC", "294276-12-31 24:00:00", "-infinity",
        "12345.678e-3", "1e131071", "0.1e-16382", "NaN", "-Infinity", "0xfFfFfFfFfFfFfFfFfFfFfFfFfFfFfFfF",
        "99999999.995", "\\x00 ff0A", "ab\\\\c\\377", "gr\303\274n    ", "abcdef     ",
        "-1.7976931348623157e308", " 3.4028235e+38 ", "1e-45", ".5E-3", "0x1p3", "4294967295", "-2147483648", "010",
        "192.168.100.128/25", "2001:db8:85a3::8a2e:370:7334/64", "::ffff:1.2.3.4", "1:2:3:4:5:6:7::", "10/8",
        "08:00:2b:01:02:03", "08002b-010203", "0800.2b01.0203", "23:59:60", "04:05:06.789-08:00",
        "1 year 2 mons -3 days +04:05:06.789", "@ 2147483647 days 2562047788:00:54.775807 ago", "P1Y2M3DT4H5M6.789S",
        "name of more than sixty-three bytes, which is cut off there: \303\274\303\274\303\274\303\274",
    };
    static const struct {
        size_t len;
        const char *bytes;
    } fields[] = {
        {14, "\0\3\0\2\100\0\0\4\0\1\023\210\0\5"}, {8, "\377\377\377\377\377\377\377\377"},
        {8, "\300\250\144\200\2\31\0\4\300"}, {8, "\2\31\0\4\300\250\144\200"}, {4, "\177\300\0\1"},
        {20, "\3\200\1\20\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1"},
        {16, "\200\0\0\0\0\0\0\0\200\0\0\0\200\0\0\0"}, {6, "\10\0\53\1\2\3"},
    };
    static const uint8_t alphabet[] = "0123456789+-.:_eExXbBoOTZ \t\n\\{}aAfF\0\200\377";
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    state = state * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (unsigned long round = 0; round < rounds; round++) {
        uint8_t input[256];
        const char *seed = seeds[below(sizeof seeds / sizeof *seeds)];
        size_t len = 3 + strlen(seed);
        if (below(8) == 0) {
            uint32_t at = below(sizeof fields / sizeof *fields);
            seed = fields[at].bytes, len = 3 + fields[at].len;
        }
        memcpy(input + 3, seed, len - 3);
        for (int i = 0; i < 3; i++)
            input[i] = (uint8_t)below(256);
        for (uint32_t changes = below(5); changes != 0; changes--) {
            uint32_t at = 3 + below((uint32_t)len - 2);
            if (below(3) == 0 && len < sizeof input) {
                memmove(input + at + 1, input + at, len - at);
                len++;
                input[at] = alphabet[below(sizeof alphabet - 1)];
            } else if (at < len && below(2) == 0) {
                input[at] = alphabet[below(sizeof alphabet - 1)];
            } else if (at < len) {
                memmove(input + at, input + at + 1, len - at - 1);
                len--;
            }
        }
        LLVMFuzzerTestOneInput(input, len);
    }
    printf("%lu inputs\n", rounds);
    return 0;
}
#endif

/*
 * What is read of a client's statements under a fuzzer: any bytes, as a chunk of messages, as a Bind, as SQL. A walk
 * takes whole messages only, a Bind's parts lie within it, and a shape with its constants put back is the statement.
 */
#include <stdlib.h>
#include <string.h>

#include "require.h"
#include "sql/messages.h"
#include "sql/shape.h"

static void fuzz_walk(const uint8_t *data, size_t n)
{
    sp_limits limits;
    for (int kind = 0; kind < 256; kind++)
        limits.of[kind] = kind & 1 ? 0x3fffffff : kind & 2 ? 40 : 0;
    const size_t count = sp_messages_count(data, n, 0, &limits);
    size_t at = 0, end;
    for (size_t i = 0; i < count; i++, at = end) {
        end = sp_message_end(data, n, at, &limits);
        REQUIRE(end >= at + SP_MESSAGE_HEADER && end <= n);
        REQUIRE(sp_message_length(data + at) == end - at - 1);
        REQUIRE(end - at - 1 <= limits.of[data[at]]);
        REQUIRE(sp_messages_run(data, n, at, data[at], limits.of[data[at]]) >= end);
    }
    REQUIRE(sp_message_end(data, n, at, &limits) == at);
    REQUIRE(sp_messages_run(data, n, n, 'd', 0x3fffffff) == n && sp_messages_run(data, n, 0, data[0], 3) == 0);
}

static void fuzz_bind(const uint8_t *payload, size_t n)
{
    sp_bind bind;
    size_t statement, size = 0;
    const size_t rest = sp_bind_names(payload, n, &statement);
    if (sp_bind_read(payload, n, &bind) != 0)
        return;
    REQUIRE(rest && rest <= n && statement == bind.statement && bind.formats == rest + 2);
    REQUIRE(payload[bind.statement - 1] == 0 && payload[rest - 1] == 0);
    const uint8_t *before = payload + bind.values;
    for (uint32_t i = 1; i <= bind.nparams && i <= 50; i++) {
        const uint8_t *value;
        size_t len;
        const int format = sp_bind_param(payload, &bind, i, &value, &len);
        REQUIRE(format >= INT16_MIN && format <= INT16_MAX && (bind.nformats || format == 0));
        REQUIRE(value ? value == before + 4 && value + len <= payload + n : len == 0);
        before += 4 + len;
        size += len;
    }
    REQUIRE(size <= n);
}

/* The statement again: each `$n` of the text replaced by what its constant was. Spaces after a sign are not kept. */
static size_t put_back(const sp_shape *shape, uint8_t *out)
{
    size_t to = 0, seen = 0;
    for (size_t i = 0; i < shape->text_len; i++) {
        if (shape->text[i] != '$') {
            out[to++] = shape->text[i];
            continue;
        }
        size_t n = 0;
        while (i + 1 < shape->text_len && shape->text[i + 1] >= '0' && shape->text[i + 1] <= '9')
            n = 10 * n + shape->text[++i] - '0';
        REQUIRE(n == ++seen && n <= shape->nconstants);
        const int string = shape->kinds[n - 1] == SP_SHAPE_STRING;
        REQUIRE(string || shape->kinds[n - 1] == SP_SHAPE_INTEGER);
        if (string)
            out[to++] = '\'';
        for (size_t j = shape->starts[n - 1]; j < shape->starts[n]; j++) {
            if (string && shape->values[j] == '\'')
                out[to++] = '\'';
            out[to++] = shape->values[j];
        }
        if (string)
            out[to++] = '\'';
    }
    REQUIRE(seen == shape->nconstants);
    return to;
}

static void fuzz_shape(const uint8_t *sql, size_t n)
{
    sp_shape *shape = malloc(sizeof *shape), *again = malloc(sizeof *again);
    uint8_t *out = malloc(SP_SHAPE_TEXT);
    REQUIRE(shape && again && out);
    if (sp_shape_read(sql, n, shape) == 0) {
        REQUIRE(shape->nconstants <= SP_SHAPE_CONSTANTS && shape->text_len <= sizeof shape->text);
        const size_t length = put_back(shape, out);
        REQUIRE(length <= n);
        if (length == n)
            REQUIRE(memcmp(out, sql, n) == 0);
        REQUIRE(sp_shape_read(out, length, again) == 0); /* and what was put back has the same shape */
        REQUIRE(again->text_len == shape->text_len && memcmp(again->text, shape->text, shape->text_len) == 0);
        REQUIRE(again->nconstants == shape->nconstants && memcmp(again->kinds, shape->kinds, shape->nconstants) == 0);
        if (shape->nconstants)
            REQUIRE(sp_shape_read(shape->text, shape->text_len, again) != 0); /* a parameter is no constant */
    }
    free(shape);
    free(again);
    free(out);
}

/* Input bytes as tokens of SQL, so that any driver finds statements. Returns their size, written if there is room. */
static size_t sql_of(const uint8_t *input, size_t n, uint8_t *out, size_t room)
{
    static const char *const tokens[] = {
        " ", " ", " ", "\n", ",", "(", ")", "=", "-", "-", "+", "*", "/", "<", ">=", ".", "::", ":", ";", "[", "]", "||", "@",
        "&", "0", "17", "5", "123456789012345678", "'x'", "''", "'it''s'", "'", "\"q\"", "\"", "a", "t.a", "f(", "E", "u",
        "$1", "\\", "--", "/*", "1e5", "_", " WHERE ", " AND ", " OR ", " NOT ", " ON ", " LIMIT ", " LIKE ", " BETWEEN ",
        " CASE WHEN ", " THEN ", " AS ", " BY ", " ORDER BY ", " DISTINCT ", " FROM ", " IN ", " VALUES ", " SELECT ",
        " varchar", " interval ", " RETURNING "};
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        const char *token = tokens[input[i] % (sizeof tokens / sizeof *tokens)];
        const size_t len = strlen(token);
        if (size + len > room)
            break;
        memcpy(out + size, token, len);
        size += len;
    }
    return size;
}

/* Reads input bytes as numbers below a bound, 0 when there are no more, and writes what a driver seldom hits on. */
typedef struct {
    const uint8_t *input;
    size_t left, size;
    uint8_t *out;
} maker;

static uint8_t below(maker *m, uint8_t bound)
{
    return m->left ? m->left--, (uint8_t)(*m->input++ % bound) : 0;
}

static void byte(maker *m, uint8_t value) { m->out[m->size++] = value; }

static void count(maker *m, uint8_t n, uint8_t item)
{
    byte(m, 0);
    byte(m, n);
    for (int i = 0; i < n * item; i++)
        byte(m, i % 2 ? below(m, 2) : 0);
}

/* The payload of a Bind. */
static void bind_of(maker *m)
{
    for (int names = 0; names < 2; names++) {
        for (uint8_t left = below(m, 3); left; left--)
            byte(m, 'n');
        byte(m, 0);
    }
    const uint8_t nparams = below(m, 5);
    count(m, below(m, 2) ? nparams : below(m, 3), 2);
    count(m, nparams, 0);
    for (uint8_t i = 0; i < nparams; i++) {
        const uint8_t length = below(m, 5);
        for (int at = 0; at < 4; at++)
            byte(m, length == 4 ? 0xff : at == 3 ? length : 0);
        for (uint8_t left = length == 4 ? 0 : length; left; left--)
            byte(m, below(m, 255));
    }
    count(m, below(m, 3), 2);
}

/* Whole messages, as many as there is input. */
static void messages_of(maker *m)
{
    while (m->left && m->size < 4000) {
        const uint8_t payload = below(m, 50);
        byte(m, "BEDS"[below(m, 4)]);
        for (int at = 0; at < 4; at++)
            byte(m, at == 3 ? payload + 4 : 0);
        for (uint8_t left = payload; left; left--)
            byte(m, below(m, 255));
    }
}

/* One byte becomes another, or the end is cut off. */
static void spoil(maker *m, uint8_t how)
{
    const size_t at = how * m->size / 256;
    if (how % 3 == 1 && m->size)
        m->out[at] = (uint8_t)(m->out[at] + how);
    if (how % 3 == 2)
        m->size = at;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    static const char *const begins[] = {"SELECT ", "SELECT a FROM t WHERE ", "INSERT INTO t VALUES (", "UPDATE t SET "};
    static uint8_t made[9000];
    if (n < 3)
        return 0;
    const uint8_t mode = input[0] % 4;
    const char *begin = begins[input[1] % 4];
    const size_t longest = input[2] & 7 ? input[2] / 8 : 8192; /* mostly short: more of them are read to their end */
    input += 3;
    n = n - 3 < longest ? n - 3 : longest;
    size_t size = n;
    if (mode == 0) {
        memcpy(made, input, n);
    } else if (mode < 3) {
        maker m = {.input = input, .left = n, .out = made};
        const uint8_t how = below(&m, 255);
        if (mode == 1)
            bind_of(&m);
        else
            messages_of(&m);
        spoil(&m, how);
        size = m.size;
    } else {
        size = strlen(begin);
        memcpy(made, begin, size);
        size += sql_of(input, n, made + size, sizeof made - size);
    }
    if (!size)
        return 0;
    uint8_t *exact = malloc(size); /* of its own, so that the sanitizer sees one byte too many */
    REQUIRE(exact);
    memcpy(exact, made, size);
    fuzz_walk(exact, size);
    fuzz_bind(exact, size);
    fuzz_shape(exact, size);
    free(exact);
    return 0;
}

/*
 * Theory of operation.
 *
 * One pass over the tokens, as scan.l cuts them, remembers of each only what it means for a constant after it
 * (`before`). A constant is taken out where, and only where, gram.y reads it as the c_expr AexprConst: there a PARAM,
 * which is a c_expr too, gives the same tree. So a constant must follow an operator, an opening parenthesis, a comma
 * or a word after which an expression stands (words.c). Four things would make the trees differ in spite of that:
 *
 *   - A parameter may be subscripted, a constant may not: nothing is read in which `[` or `.` follows a constant.
 *   - A string after a name is a constant of that type (`date '2020-01-01'`): no constant follows a name, and a
 *     keyword that may also be a type's name (LIKE) counts only where an operand stands before it.
 *   - A minus sign before an integer is made part of it (doNegate), through parentheses also, unless `::` follows:
 *     such a sign is taken out with its integer, and every other minus sign that is no subtraction is refused,
 *     except before a name.
 *   - Some parentheses and brackets want a bare constant (`varchar(10)`, `int[3]`): they are refused.
 *
 * An integer that stands for a column (ORDER BY 1, GROUP BY 1, DISTINCT ON (1)) is refused, because its value is
 * meaning, and so is any constant that begins an item of such a list.
 *
 * What is refused is refused for good: the caller has PostgreSQL's own grammar for it.
 */
#include "sql/shape.h"

#include <string.h>

#include "sql/words.h"

#define DEPTH 64 /* of parentheses: a bit each */

/* What each byte begins. ' ' space, a word, 0 digit, o operator, ! refused, others for themselves. */
static const char classes[128 + 1] = "!!!!!!!!!  !  !!"  /* not \v, which is white space from PostgreSQL 16 on */
                                     "!!!!!!!!!!!!!!!!"
                                     " o\"o!oo'()oo,o.o" /* no $ */
                                     "0000000000:;oooo"
                                     "oaaaaaaaaaaaaaaa"
                                     "aaaaaaaaaaa[!]oa"  /* no backslash */
                                     "oaaaaaaaaaaaaaaa"
                                     "aaaaaaaaaaa!o!o!";

/* What stood before. The order matters: see opens() and is_value(). */
typedef enum {
    SHUT, /* neither a constant nor a sign may follow */
    DOT,
    LABEL, /* AS: a name, whatever word it is */
    DISTINCT,
    NEGATION, /* a minus sign that is no subtraction */
    EXPRESSION, /* from here on a constant may follow */
    LIST,       /* an opening parenthesis or a comma */
    NOT,        /* after an operand, as in NOT LIKE */
    VALUE, /* from here on an operand has ended */
    TYPE,
    CONSTANT,
    SIGNED
} token;

/* A type's name may be followed by modifiers in parentheses, which have to be constants. */
typedef enum { NO_TYPE, TYPE_FOLLOWS, TYPE_NAMED } type_state;

typedef struct {
    const uint8_t *sql;
    size_t len, at;
    size_t copied; /* up to here the text is in the shape */
    token before;
    type_state type;
    uint32_t depth;
    uint64_t lists; /* at which depths an ORDER BY, GROUP BY or PARTITION BY list has begun */
    sp_shape *out;
} scan;

static inline int opens(token before) { return before >= EXPRESSION && before <= NOT; }
static inline int is_value(token before) { return before >= VALUE; }
static inline int is_constant(token before) { return before >= CONSTANT; }
static inline char class_of(uint8_t c) { return c < 128 ? classes[c] : '!'; }

/* The class of the byte `i`, of a space at the end. */
static inline char class_at(const scan *s, size_t i) { return i < s->len ? class_of(s->sql[i]) : ' '; }

static inline int is_word_class(char class) { return class == 'a' || class == '0'; }

static inline int is_quote_class(char class) { return class == '\'' || class == '"'; }

static size_t skip(const scan *s, size_t i, char class)
{
    while (i < s->len && class_of(s->sql[i]) == class)
        i++;
    return i;
}

/* A prefix (E'', U&"") or a suffix that touches a quoted token or a number could be part of it. */
static int stands_free(const scan *s, size_t start, size_t end)
{
    const char next = class_at(s, end);
    return !(start && is_word_class(class_of(s->sql[start - 1]))) && !is_word_class(next) && !is_quote_class(next);
}

static int constant_may_stand(const scan *s)
{
    return opens(s->before) && !(s->before == LIST && s->lists) && s->out->nconstants < SP_SHAPE_CONSTANTS;
}

/* Puts `$n` in the place of the bytes from `start` to s->at; its value has been written. */
static void take_out(scan *s, size_t start, uint8_t kind, size_t value_end)
{
    sp_shape *out = s->out;
    uint8_t *text = out->text + out->text_len;
    memcpy(text, s->sql + s->copied, start - s->copied);
    text += start - s->copied;
    s->copied = s->at;
    out->kinds[out->nconstants++] = kind;
    out->starts[out->nconstants] = (uint16_t)value_end;
    *text++ = '$';
    if (out->nconstants >= 100)
        *text++ = (uint8_t)('0' + out->nconstants / 100);
    if (out->nconstants >= 10)
        *text++ = (uint8_t)('0' + out->nconstants / 10 % 10);
    *text++ = (uint8_t)('0' + out->nconstants % 10);
    out->text_len = (size_t)(text - out->text);
}

/* An integer of plain digits at s->at, which may have a sign at `start`. */
static int integer(scan *s, size_t start)
{
    const size_t first = s->at, end = skip(s, first, '0'), digits = end - first;
    if (!constant_may_stand(s) || digits > SP_SHAPE_DIGITS || class_at(s, end) == '.' || !stands_free(s, start, end))
        return -1;
    size_t to = s->out->starts[s->out->nconstants];
    if (start != first)
        s->out->values[to++] = '-';
    memcpy(s->out->values + to, s->sql + first, digits);
    s->at = end;
    take_out(s, start, SP_SHAPE_INTEGER, to + digits);
    s->before = start == first ? CONSTANT : SIGNED;
    return 0;
}

/* A string of plain quotes at s->at. Each byte that means something to some setting or encoding is refused. */
static int string(scan *s)
{
    const size_t start = s->at;
    if (!constant_may_stand(s))
        return -1;
    size_t to = s->out->starts[s->out->nconstants];
    for (size_t i = start + 1; i < s->len; i++) {
        const uint8_t c = s->sql[i];
        if (c >= 0x80 || c == '\\' || c == 0)
            return -1;
        if (c == '\'') {
            if (i + 1 == s->len || s->sql[i + 1] != '\'') {
                s->at = i + 1;
                if (!stands_free(s, start, s->at))
                    return -1;
                take_out(s, start, SP_SHAPE_STRING, to);
                s->before = CONSTANT;
                return 0;
            }
            i++;
        }
        s->out->values[to++] = c;
    }
    return -1;
}

static int quoted_name(scan *s)
{
    const size_t start = s->at++;
    while (s->at < s->len && s->sql[s->at] != '"') {
        const char class = class_of(s->sql[s->at++]);
        if (class == '!')
            return -1;
    }
    if (s->at == s->len || s->at == start + 1)
        return -1;
    s->at++;
    if (!stands_free(s, start, s->at))
        return -1;
    s->type = s->type == TYPE_FOLLOWS ? TYPE_NAMED : NO_TYPE;
    s->before = VALUE;
    return 0;
}

static int keyword(scan *s, sp_word word)
{
    switch (word) {
    case SP_WORD_NAME:
        s->before = VALUE;
        return 0;
    case SP_WORD_TYPE:
        s->before = TYPE;
        return 0;
    case SP_WORD_COMPARES:
        if (!is_value(s->before) && s->before != NOT)
            return -1;
        s->before = EXPRESSION;
        return 0;
    case SP_WORD_ON:
        if (s->before == DISTINCT)
            return -1;
        s->before = EXPRESSION;
        return 0;
    case SP_WORD_CLAUSE:
        s->lists &= ~(UINT64_C(1) << s->depth);
        s->before = EXPRESSION;
        return 0;
    case SP_WORD_SELECT:
    case SP_WORD_OPENS:
        s->before = EXPRESSION;
        return 0;
    case SP_WORD_NOT:
        s->before = is_value(s->before) ? NOT : EXPRESSION;
        return 0;
    case SP_WORD_DISTINCT:
        s->before = DISTINCT;
        return 0;
    case SP_WORD_AS:
        s->before = LABEL;
        s->type = TYPE_FOLLOWS;
        return 0;
    case SP_WORD_BY:
        s->lists |= UINT64_C(1) << s->depth;
        s->before = SHUT;
        return 0;
    case SP_WORD_VERB:
    case SP_WORD_SHUT:
        s->before = SHUT;
        return 0;
    }
    return -1;
}

static int word(scan *s)
{
    const size_t start = s->at;
    while (is_word_class(class_at(s, s->at)))
        s->at++;
    const type_state type = s->type;
    s->type = type == TYPE_FOLLOWS ? TYPE_NAMED : NO_TYPE;
    if (s->before == DOT || s->before == LABEL || type == TYPE_FOLLOWS) {
        s->before = VALUE;
        return 0;
    }
    return keyword(s, sp_word_of(s->sql + start, s->at - start));
}

/* Where the operator that begins at s->at ends, as scan.l cuts it; 0: there is a comment in it. */
static size_t operator_end(const scan *s)
{
    size_t end = skip(s, s->at, 'o');
    int special = 0; /* one of ~!@#^&|`?%: with it an operator may end in + or - */
    for (size_t i = s->at; i < end; i++) {
        if (i + 1 < end && ((s->sql[i] == '-' && s->sql[i + 1] == '-') || (s->sql[i] == '/' && s->sql[i + 1] == '*')))
            return 0;
        special |= s->sql[i] != '-' && s->sql[i] != '+' && !strchr("*/<>=", s->sql[i]);
    }
    while (!special && end - s->at > 1 && (s->sql[end - 1] == '+' || s->sql[end - 1] == '-'))
        end--;
    return end;
}

static int minus(scan *s)
{
    const size_t start = s->at++;
    if (is_value(s->before)) {
        s->before = EXPRESSION;
        return 0;
    }
    s->at = skip(s, s->at, ' ');
    if (class_at(s, s->at) == '0')
        return integer(s, start);
    s->before = NEGATION;
    return 0;
}

static int operator_(scan *s)
{
    const size_t start = s->at, end = operator_end(s);
    if (!end)
        return -1;
    const int star = end == start + 1 && s->sql[start] == '*';
    s->type = NO_TYPE;
    if (s->before == DOT && star) {
        s->at = end;
        s->before = VALUE; /* t.* */
        return 0;
    }
    const int sign = end == start + 1 && (s->sql[start] == '-' || s->sql[start] == '+');
    if (s->before == DOT || s->before == LABEL || s->before == NEGATION || (sign && s->before < EXPRESSION))
        return -1; /* after a word like FIRST a sign may be part of a number, or stand between operands */
    if (s->sql[start] == '&' && start && (s->sql[start - 1] | 32) == 'u' && is_quote_class(class_at(s, end)))
        return -1; /* U&'' and U&"" */
    if (sign && s->sql[start] == '-')
        return minus(s);
    s->at = end;
    s->before = EXPRESSION;
    return 0;
}

static int open_parenthesis(scan *s)
{
    if (s->before == TYPE || s->before == NEGATION || s->type == TYPE_NAMED || s->depth + 1 == DEPTH)
        return -1;
    s->at++;
    s->depth++;
    s->type = NO_TYPE;
    s->before = LIST;
    return 0;
}

static int close_parenthesis(scan *s)
{
    if (!s->depth)
        return -1;
    s->lists &= ~(UINT64_C(1) << s->depth--);
    s->at++;
    s->type = NO_TYPE;
    s->before = VALUE;
    return 0;
}

static int dot(scan *s)
{
    if ((!is_value(s->before) && s->before != SHUT) || is_constant(s->before))
        return -1;
    s->type = s->type == TYPE_NAMED ? TYPE_FOLLOWS : NO_TYPE;
    s->at++;
    s->before = DOT;
    return 0;
}

/* A cast, or the colon of a slice. */
static int colon(scan *s)
{
    const int cast = s->at + 1 < s->len && s->sql[s->at + 1] == ':';
    if (s->before == SIGNED || (s->at + 1 < s->len && s->sql[s->at + 1] == '='))
        return -1;
    s->at += cast ? 2 : 1;
    s->type = cast ? TYPE_FOLLOWS : NO_TYPE;
    s->before = SHUT;
    return 0;
}

static int simple(scan *s, token before)
{
    s->at++;
    s->type = NO_TYPE;
    s->before = before;
    return 0;
}

static int one_token(scan *s)
{
    switch (class_of(s->sql[s->at])) {
    case ' ':
        s->at = skip(s, s->at, ' ');
        return 0;
    case 'a':
        return word(s);
    case '0':
        s->type = NO_TYPE;
        return integer(s, s->at);
    case '\'':
        s->type = NO_TYPE;
        return string(s);
    case '"':
        return quoted_name(s);
    case 'o':
        return operator_(s);
    case '(':
        return open_parenthesis(s);
    case ')':
        return close_parenthesis(s);
    case ',':
        return simple(s, LIST);
    case '[':
        return is_constant(s->before) ? -1 : simple(s, SHUT);
    case ']':
        return simple(s, VALUE);
    case '.':
        return dot(s);
    case ':':
        return colon(s);
    case ';':
        s->at = skip(s, s->at + 1, ' ');
        return s->at == s->len ? 0 : -1;
    default:
        return -1;
    }
}

/* Only a SELECT, INSERT, UPDATE or DELETE is certain to have its constants in expressions. */
static int first_word(scan *s)
{
    s->at = skip(s, 0, ' ');
    const size_t start = s->at;
    while (is_word_class(class_at(s, s->at)))
        s->at++;
    const sp_word verb = sp_word_of(s->sql + start, s->at - start);
    s->before = verb == SP_WORD_SELECT ? EXPRESSION : SHUT;
    return verb == SP_WORD_SELECT || verb == SP_WORD_VERB ? 0 : -1;
}

int sp_shape_read(const uint8_t *sql, size_t len, sp_shape *out)
{
    scan s = {.sql = sql, .len = len, .out = out};
    out->nconstants = out->text_len = 0;
    out->starts[0] = 0;
    if (len > SP_SHAPE_TEXT || first_word(&s) != 0)
        return -1;
    while (s.at < len)
        if (one_token(&s) != 0)
            return -1;
    if (s.depth)
        return -1;
    memcpy(out->text + out->text_len, sql + s.copied, len - s.copied);
    out->text_len += len - s.copied;
    return 0;
}

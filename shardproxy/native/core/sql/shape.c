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

#include "sql/scan.h"
#include "sql/words.h"

static int quoted_name(scan *s)
{
    const size_t start = s->at++;
    while (s->at < s->len && s->sql[s->at] != '"') {
        if (is_refused(class_of(s->sql[s->at++])))
            return -1;
    }
    if (s->at == s->len || s->at == start + 1)
        return -1;
    s->at++;
    if (!sp_scan_stands_free(s, start, s->at))
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
        return sp_scan_integer(s, start);
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
        return sp_scan_integer(s, s->at);
    case '\'':
        s->type = NO_TYPE;
        return sp_scan_string(s);
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

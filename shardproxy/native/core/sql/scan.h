/* Where shape.c stands in a statement, shared with constants.c. */
#ifndef SP_SQL_SCAN_H
#define SP_SQL_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "sql/shape.h"

#define DEPTH 64 /* of parentheses: a bit of `lists` each */

/* What each byte begins. ' ' space, a word, 0 digit, o operator, ! refused, others themselves. Beyond ASCII it is 0. */
static const char classes[256] = "!!!!!!!!!  !  !!" /* not \v, which is white space from PostgreSQL 16 on */
                                 "!!!!!!!!!!!!!!!!"
                                 " o\"o!oo'()oo,o.o" /* no $ */
                                 "0000000000:;oooo"
                                 "oaaaaaaaaaaaaaaa"
                                 "aaaaaaaaaaa[!]oa" /* no backslash */
                                 "oaaaaaaaaaaaaaaa"
                                 "aaaaaaaaaaa!o!o!";

/* What stood before. The order matters: see opens() and is_value(). */
typedef enum {
    SHUT, /* neither a constant nor a sign may follow */
    DOT,
    LABEL, /* AS: a name follows, whatever word it is */
    DISTINCT,
    NEGATION,   /* a minus sign that is no subtraction */
    EXPRESSION, /* from here on a constant may follow */
    LIST,       /* an opening parenthesis or a comma */
    NOT,        /* after an operand, as in NOT LIKE */
    VALUE,      /* from here on an operand has ended */
    TYPE, /* a word of SP_WORD_TYPE */
    CONSTANT,
    SIGNED /* a constant with a minus sign */
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
static inline char class_of(uint8_t c) { return classes[c]; }

/* The class of the byte `i`, of a space at the end. */
static inline char class_at(const scan *s, size_t i) { return i < s->len ? class_of(s->sql[i]) : ' '; }

static inline int is_refused(char class) { return class == '!' || class == 0; }
static inline int is_word_class(char class) { return class == 'a' || class == '0'; }
static inline int is_quote_class(char class) { return class == '\'' || class == '"'; }

static inline size_t skip(const scan *s, size_t i, char class)
{
    while (i < s->len && class_of(s->sql[i]) == class)
        i++;
    return i;
}

/* A constant at s->at: takes it out if one may stand there, else nonzero. A sign of an integer stands at `start`. */
int sp_scan_integer(scan *s, size_t start);
int sp_scan_string(scan *s);

/* A prefix (E'', U&"") or a suffix that touches a quoted token or a number could be part of it. */
int sp_scan_stands_free(const scan *s, size_t start, size_t end);

#endif

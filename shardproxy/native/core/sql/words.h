/* What a word of an SQL text means for the constant that may follow it. */
#ifndef SP_SQL_WORDS_H
#define SP_SQL_WORDS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    SP_WORD_NAME = 0,       /* an operand ends here: a name, a keyword that is a value, or one that no constant follows */
    SP_WORD_VERB = 'v',     /* a statement begins: INSERT, UPDATE, DELETE, WITH */
    SP_WORD_SELECT = 'S',   /* a statement begins, and an expression follows */
    SP_WORD_OPENS = 'e',    /* an expression follows */
    SP_WORD_CLAUSE = 'l',   /* an expression follows, and a list of ORDER BY or GROUP BY has ended */
    SP_WORD_COMPARES = 'c', /* an expression follows if an operand stands before it: else it may be a type's name */
    SP_WORD_NOT = 'n',
    SP_WORD_ON = 'o',
    SP_WORD_BY = 'b',
    SP_WORD_AS = 'a',
    SP_WORD_DISTINCT = 'd',
    SP_WORD_SHUT = '-', /* an expression may follow, but whether, and which, is not looked at */
    SP_WORD_TYPE = 't'  /* in parentheses after it the grammar wants a constant, or has rules of its own */
} sp_word;

sp_word sp_word_of(const uint8_t *word, size_t len);

#endif

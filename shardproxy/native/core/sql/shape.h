/*
 * The shape of an SQL statement: its text with the constants taken out, so that `id = 17` and `id = 18` share a plan.
 *
 * It follows PostgreSQL's scanner (src/backend/parser/scan.l) and grammar (gram.y) for a part of SQL that it is
 * certain of, and refuses every other text. See shape.c for what makes it certain.
 */
#ifndef SP_SQL_SHAPE_H
#define SP_SQL_SHAPE_H

#include <stddef.h>
#include <stdint.h>

enum {
    SP_SHAPE_TEXT = 8192,     /* bytes of a statement: what is longer repeats seldom, and costs a parse little more */
    SP_SHAPE_CONSTANTS = 100, /* more: a list that differs from one statement to the next in its length, too */
    SP_SHAPE_DIGITS = 18,     /* of an integer: any that many fit into int8 */
    SP_SHAPE_GROWTH = 3       /* `1` becomes `$100` */
};

enum { SP_SHAPE_INTEGER = 'i', SP_SHAPE_STRING = 's' };

typedef struct {
    size_t text_len;
    size_t nconstants;
    uint8_t kinds[SP_SHAPE_CONSTANTS];
    uint16_t starts[SP_SHAPE_CONSTANTS + 1]; /* constant i is values[starts[i]] up to values[starts[i + 1]] */
    uint8_t text[SP_SHAPE_TEXT + SP_SHAPE_GROWTH * SP_SHAPE_CONSTANTS];
    uint8_t values[SP_SHAPE_TEXT];
} sp_shape;

/* Reads one statement; 0: done, -1: refused, and *out holds nothing of use. */
int sp_shape_read(const uint8_t *sql, size_t len, sp_shape *out);

#endif

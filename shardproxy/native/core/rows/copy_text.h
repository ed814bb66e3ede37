/* Values as fields of COPY's text format. */
#ifndef SP_COPY_TEXT_H
#define SP_COPY_TEXT_H

#include "bytebuf.h"

/* Append a value as it is read back by CopyReadAttributesText: backslash, tab, newline and carriage return escaped, all
 * other bytes as they are. Nonzero: out of memory, nothing appended. */
int sp_copy_text_put(sp_buf *out, const uint8_t *value, size_t size);

#endif

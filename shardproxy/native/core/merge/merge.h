/*
 * Several servers' CopyData (or DataRow) messages into one stream of whole messages, as they arrive.
 *
 * One header, one binary signature and no trailer get through; sp_merge_tail gives what ends the stream. A message
 * that is not of the given type is never read: its sender's stream stops in front of it. Of rows, `limit` get through,
 * the first that come; the rest are read and dropped.
 */
#ifndef SP_MERGE_H
#define SP_MERGE_H

#include <stddef.h>
#include <stdint.h>

enum { SP_MERGE_PLAIN = 0, SP_MERGE_TEXT = 1, SP_MERGE_BINARY = 2 };
#define SP_MERGE_ALL UINT64_MAX /* a limit that no rows reach */

enum { SP_MERGE_OK = 0, SP_MERGE_MEMORY = -1, SP_MERGE_BAD_LENGTH = -2, SP_MERGE_BAD_HEADER = -3 };

typedef struct sp_merge sp_merge;

sp_merge *sp_merge_new(uint32_t nsources, uint8_t type, int format, int header, uint64_t limit);
void sp_merge_free(sp_merge *m);

/* Looks at a source's bytes: how many are taken, and how many sp_merge_take will write before the next feed. */
int sp_merge_feed(sp_merge *m, uint32_t source, const uint8_t *data, size_t len, size_t *taken, size_t *size);
int sp_merge_take(sp_merge *m, uint8_t *out);

/* Writes what ends the stream, at most `room` bytes, and returns its length (more than room: nothing written). */
size_t sp_merge_tail(const sp_merge *m, uint8_t *out, size_t room);
uint64_t sp_merge_rows(const sp_merge *m);

#endif

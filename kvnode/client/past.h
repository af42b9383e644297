/* Requests about the past: HISTORY, VERSION, LOG, NAMES. The write-behind is flushed to
 * the present first; then a worker thread reads state.db. Loop thread only, but
 * for the reading itself. */
#ifndef KVFS_KVNODE_CLIENT_PAST_H
#define KVFS_KVNODE_CLIENT_PAST_H

/* Bytes that a row may take in an answer. */
#define PAST_ROW_MAX 16384

#include <stdint.h>

struct bytes;
struct client_conn;
struct frame;
struct group;
struct self;
struct past;
union request_body;

struct past *past_new(struct group *group, const struct self *self); /* NULL: out of memory */
/* Waits for the worker; requests under way are dropped. */
void past_free(struct past *p);
/* 0, or -errno: close the connection. */
int past_request(struct past *p, struct client_conn *conn, const struct frame *frame,
                 const union request_body *body);
/* The write-behind has got on. */
void past_flushed(struct past *p);
/* Of the cursor of an answer to LOG without `more`: the revision up to which that has told all. 0: of none.
 */
uint64_t past_covered(const struct bytes *cursor);
/* state.db is another file now. */
void past_reopen(struct past *p);

#endif

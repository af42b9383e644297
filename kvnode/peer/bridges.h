/* The peer socket, where the bridges that sshd starts for peers' keys hand over
 * their streams (sync/ssh/handover.h). Loop thread only.
 *
 * A bridge that says nothing is closed after BRIDGES_SILENT_MS; of more than
 * BRIDGES_SILENT_MAX that have said nothing yet, the oldest goes, so that they
 * keep nobody out and use up no descriptors. */
#ifndef KVFS_KVNODE_PEER_BRIDGES_H
#define KVFS_KVNODE_PEER_BRIDGES_H

#include <stdint.h>
#include <uv.h>

#define BRIDGES_SILENT_MS 5000
#define BRIDGES_SILENT_MAX 32

struct bridges;

/* A peer has logged in with the key called name. in, out: the stream; bridge: its
 * process, which goes when this is closed. All three are the callee's. */
typedef void bridges_stream_fn(void *arg, const char *name, int in, int out, int bridge);

/* 0, or a negative errno; close it with bridges_close() also then if *out is set. */
int bridges_listen(uv_loop_t *loop, const char *socket_path, bridges_stream_fn *on_stream, void *arg,
                   struct bridges **out);
void bridges_beat(struct bridges *b, uint64_t now_ms); /* clock_boot_ms() */
/* Removes the socket, closes what has not been handed over. NULL is ignored. */
void bridges_close(struct bridges *b);
void bridges_free(struct bridges *b); /* after the loop has closed the handles */

#endif

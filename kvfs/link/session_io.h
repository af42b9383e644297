/* Reading requests from /dev/fuse and writing answers to it, under libfuse: for the one flag of the answer to
 * INIT that libfuse before 3.17 offers to a file system (FUSE_CAP_PARALLEL_DIROPS) and then does not pass on.
 * Without it the kernel lets one lookup at a time into a directory: those behind one that waits for a silent
 * node wait as well, and then once more for themselves. */
#ifndef KVFS_KVFS_LINK_SESSION_IO_H
#define KVFS_KVFS_LINK_SESSION_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuse_session;
struct iovec;

/* What is known of the kernel's INIT. */
struct session_init {
    uint64_t unique; /* of the request that is to be answered; 0: none, or it is answered */
};

/* A message of the kernel's: notes an INIT that offers lookups in parallel (pure). */
void session_io_request(struct session_init *init, const void *message, size_t len);
/* An answer of libfuse's, in parts. Whether it is that of the noted INIT, and a good one; then body_out, of
 * `size` bytes, has what parts[1] has, with the flag set (pure). */
bool session_io_answer(struct session_init *init, const struct iovec *parts, int n, void *body_out,
                       size_t size);

/* From now on the session reads and writes by this. After it has been mounted, before any thread runs; there
 * is one session in a process. 0 or a negative errno. */
int session_io_start(struct fuse_session *session);

#endif

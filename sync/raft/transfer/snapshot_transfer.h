/* Streaming a state file to a peer that is too far behind: two state machines,
 * without sockets (Raft §5.1; messages in PROTOCOL.md).
 *
 *      sender: HASHING -> OPENING -> STREAMING -> CLOSING -> DONE
 *                            ^___________|  link lost: snapshot_sender_restart()
 *      receiver: IDLE -> RECEIVING -> VERIFIED -> COMPLETE
 *
 *   sender                                     receiver
 *   BEGIN id, group term, meta, size, digest ->
 *                                           <- ACK id, offset      (what it has of this id)
 *   CHUNK id, offset, bytes ...             ->
 *                                           <- ACK id, offset ...  (4 MiB at most in flight)
 *   END id                                  ->                     (digest is right, fsync)
 *                                           <- FINISHED id   (or REFUSED id, reason)
 *
 * A receiver outlives its link: a sender that begins again under the same
 * transfer id goes on where it was. Another id starts over.
 *
 * Loop thread, except snapshot_receiver_sync(). A step reads or writes at most
 * SNAPSHOT_CHUNK_BYTES of the file. */
#ifndef KVFS_SYNC_RAFT_TRANSFER_SNAPSHOT_TRANSFER_H
#define KVFS_SYNC_RAFT_TRANSFER_SNAPSHOT_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/raft/engine/snapshot_meta.h"

#define SNAPSHOT_CHUNK_BYTES (256u * 1024u)
#define SNAPSHOT_WINDOW_BYTES (4u * 1024u * 1024u)
#define SNAPSHOT_MAX_FILE (UINT64_C(1) << 40)
/* No encoded message is longer. */
#define SNAPSHOT_MESSAGE_MAX_LEN (SNAPSHOT_CHUNK_BYTES + 64u * 1024u)

/* ---- sender ---- */

struct snapshot_sender;

enum snapshot_step {
    SNAPSHOT_MESSAGE, /* a message was appended to out: send it */
    SNAPSHOT_AGAIN,   /* worked on the digest: call again soon, without waiting */
    SNAPSHOT_WAIT,    /* waits for the receiver */
    SNAPSHOT_DONE,    /* the receiver has it all and has told its engine */
};

/* fd: the state file, open for reading, owned from here on (also on failure);
 * its contents must not change. transfer_id: > 0, not used before for another
 * file (e.g. random). term: our raft term, for the install message. digest:
 * of a file sent before, or NULL to compute it in steps. 0, -ENOMEM, or the
 * -errno of fstat; -EFBIG. */
int snapshot_sender_new(int fd, uint64_t transfer_id, uint64_t term, const struct snapshot_meta *meta,
                        const uint64_t *digest, struct snapshot_sender **out);
void snapshot_sender_free(struct snapshot_sender *s); /* NULL is ignored; closes fd */
/* The next thing to do. enum snapshot_step, or negative: the file cannot be
 * read (-EIO if it became shorter), -ENOMEM, -EREMOTEIO: the receiver refused
 * (snapshot_sender_refusal() says why). */
int snapshot_sender_step(struct snapshot_sender *s, struct buffer *out);
/* A message from the receiver. 0, KV_E_PROTOCOL or -ENOMEM. */
int snapshot_sender_receive(struct snapshot_sender *s, const void *data, size_t len);
/* The link is new: begin again; the receiver says from where. */
void snapshot_sender_restart(struct snapshot_sender *s);
bool snapshot_sender_digest(const struct snapshot_sender *s, uint64_t *digest_out); /* false: not known yet */
uint64_t snapshot_sender_acked(const struct snapshot_sender *s);                    /* bytes, for progress */
uint64_t snapshot_sender_size(const struct snapshot_sender *s);
uint64_t snapshot_sender_index(const struct snapshot_sender *s);
/* What the receiver refused with (enum kv_error), 0: nothing. */
int snapshot_sender_refusal(const struct snapshot_sender *s);

/* ---- receiver ---- */

struct snapshot_receiver;

enum snapshot_receiver_state {
    SNAPSHOT_RECEIVER_IDLE,
    SNAPSHOT_RECEIVER_RECEIVING,
    SNAPSHOT_RECEIVER_VERIFIED, /* complete and right, not yet fsynced */
    SNAPSHOT_RECEIVER_COMPLETE, /* durable; its install message may go to the engine */
};

/* path: of the incoming file (state.db.incoming), truncated when a transfer
 * starts. -ENOMEM. */
int snapshot_receiver_new(const char *path, struct snapshot_receiver **out);
void snapshot_receiver_free(struct snapshot_receiver *r); /* NULL is ignored; leaves the file */
/* One message from the sender; answers are appended to reply. 0; KV_E_PROTOCOL:
 * close the link; -errno of the file (-ENOSPC, -EIO): the transfer was refused
 * in reply and dropped. A wrong digest is answered by a refusal, returns
 * KV_E_IO and drops the transfer. */
int snapshot_receiver_receive(struct snapshot_receiver *r, const void *data, size_t len,
                              struct buffer *reply);
enum snapshot_receiver_state snapshot_receiver_state(const struct snapshot_receiver *r);
/* In VERIFIED: fsync of the file and its directory. Blocks: any thread, while
 * no other call is made. 0 (then COMPLETE), or -errno (then drop). */
int snapshot_receiver_sync(struct snapshot_receiver *r);
/* In COMPLETE: what the install message needs. meta is borrowed. */
const struct snapshot_meta *snapshot_receiver_meta(const struct snapshot_receiver *r, uint64_t *term_out);
/* The engine was told: appends FINISHED and goes IDLE; the file is the caller's. */
void snapshot_receiver_finish(struct snapshot_receiver *r, struct buffer *reply);
/* Gives the transfer up: closes and removes the file. */
void snapshot_receiver_drop(struct snapshot_receiver *r);
uint64_t snapshot_receiver_received(const struct snapshot_receiver *r, uint64_t *size_out);

#endif

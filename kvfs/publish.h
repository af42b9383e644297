/* Publishing: one command that applies a file's edits to the then-current value.
 *
 *           FLUSH, FSYNC, RELEASE,              own event, or answer 0
 *           RENAME, chmod, 5 s    ┌──────────┐
 *   stage ───────────────────────►│ inflight │──────────────────────► gone
 *     ▲                           └──────────┘
 *     └───────────────────────────────┘ answer with an error: first again
 *
 * One publication of a file at a time. What is written meanwhile is staged for
 * the next. The command keeps its number until it is answered, over any number
 * of connections, even when those who waited for it have been given EIO. */
#ifndef KVFS_KVFS_PUBLISH_H
#define KVFS_KVFS_PUBLISH_H

#include "kvfs/file.h"
#include "sync/wire/message.h"

/* Publishes what the inode has and calls on_answer(r, code) when it is done;
 * at once if there is nothing. inode may be NULL. */
void publish_wait(struct fs *fs, struct inode *inode, struct request *r, request_fn *on_answer);
/* Starts a publication if there is something to publish and none is under way. */
void publish_start(struct fs *fs, struct file *f);
/* The last writable handle has gone; f may be freed. */
void publish_released(struct fs *fs, struct file *f);
/* An event of this mount's own command seq on the file. */
void publish_landed(struct fs *fs, struct file *f, const struct event *e);
/* Publishes what has been staged for longer than the commit time. */
void publish_tick(struct fs *fs, uint64_t now_ms);
/* Starts all; whether anything is left unpublished. */
bool publish_all(struct fs *fs);

#endif

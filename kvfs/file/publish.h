/* Publishing: one command that applies a file's edits to the then-current value.
 *
 *           FLUSH, FSYNC, RELEASE,              own event, or answer 0
 *           RENAME, chmod, 5 s    ┌──────────┐
 *   stage ───────────────────────►│ inflight │──────────────────────► gone
 *     ▲                           └──────────┘
 *     └───────────────────────────────┘ answer with an error: first again
 *
 * One publication of a file at a time, and one in parts at a time: what the node
 * keeps of unfinished ones is bounded. Users whose files wait for that take turns. What is written meanwhile
 * is staged for the next. The command keeps its number until it is answered, over any number of connections,
 * even when those who waited for it have been given EIO.
 *
 * It also begins when very many pieces are staged: what is written here and there into a
 * file that stays open takes memory, and a publication's length, for each.
 *
 * What fails for now (no room, no leader) stays staged and is tried again, more and
 * more seldom, and at once when somebody waits for it. When nobody has the file open
 * for writing any more it is published only if nobody else has written to it since: somebody was
 * told that it failed.
 *
 * Edits are dropped if trying again cannot help (too large, not permitted), and if
 * they may have been published under a session that has ended. If nobody who waits
 * can be told, the next one to open, sync or close the file is. */
#ifndef KVFS_KVFS_FILE_PUBLISH_H
#define KVFS_KVFS_FILE_PUBLISH_H

#include "kvfs/file/file.h"
#include "sync/wire/message.h"

/* Publishes what the inode has and calls on_answer(call, code) when it is done;
 * at once if there is nothing. inode may be NULL. */
void publish_wait(struct kernel_inode *inode, struct call *call, call_fn *on_answer);
/* Starts a publication if there is something to publish and none is under way.
 * Nothing is ended or freed by it. */
void publish_start(struct files *files, struct file *f);
/* The last writable handle has gone; f may be freed. */
void publish_released(struct files *files, struct file *f);
/* It was removed. Who waits for a publication that was never begun has nothing to wait for any more; inode
 * and its file may be freed. */
void publish_removed(struct files *files, struct kernel_inode *inode);
/* Who waited for it was told that it is not published. inode may be NULL. */
void publish_told(struct kernel_inode *inode);
/* An event on the file. If it is that of the publication under way, also of one that
 * an earlier session has sent, that is over; f may be freed. */
void publish_landed(struct files *files, struct file *f, const struct event *e);
/* Whoever wrote it has lost a lock: nothing of it is to be published any more. It is dropped, and who waits
 * for it told, soon. */
void publish_fence(struct file *f);
/* Whether it is. */
bool publish_is_own(const struct file *f, const struct event *e);
/* Publishes what has been staged for longer than the commit time. */
void publish_tick(struct files *files, uint64_t now_ms);
/* Starts all; whether anything is left unpublished. */
bool publish_all(struct files *files);

#endif

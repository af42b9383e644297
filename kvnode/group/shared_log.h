/* log.db on the loop: one file for the logs of all groups, so that what they write at the same
 * time costs one fsync. What was written is told to the group that asked for it. Loop thread only.
 *
 * A failure of the file ends the process (exit status 70): see consensus.h. */
#ifndef KVFS_KVNODE_GROUP_SHARED_LOG_H
#define KVFS_KVNODE_GROUP_SHARED_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sync/raft/log/log_store.h"

struct shared_log;
struct turn;

/* A group's part of it. */
struct shared_log_member {
    uint16_t group;
    void *arg;
    /* One more is written; in the order of the calls. Nothing is to be done about it yet. */
    void (*on_completed)(void *arg, enum log_store_event_type type);
    /* All have been told what is theirs. */
    void (*on_woken)(void *arg);
};

/* Opens log.db and verifies it. turn (borrowed) is told of the time that the loop waits. 0, or negative
 * errno with a sentence in why (512 bytes). */
int shared_log_open(const char *path, uv_loop_t *loop, struct turn *turn, struct shared_log **out, char *why);
/* After all groups: makes what is queued durable and frees everything, once the loop has closed the handle.
 * NULL is ignored. */
void shared_log_close(struct shared_log *l);
/* For what one group stores; borrowed. */
struct log_store *shared_log_store(struct shared_log *l);

/* 0 or -ENOMEM. The member is copied. */
int shared_log_join(struct shared_log *l, const struct shared_log_member *member);
void shared_log_leave(struct shared_log *l, uint16_t group); /* who has not joined is ignored */
/* Tells at once what is written by now; on_woken follows in a later turn. */
void shared_log_tell(struct shared_log *l);

/* Waits until all that is queued is durable: log_store_sync(). */
int shared_log_sync(struct shared_log *l);
/* The loop has waited for log.db, since then (clock_boot_ns()): for what must be durable before anything else
 * is done or said, a term, a vote, a life. */
void shared_log_waited(struct shared_log *l, uint64_t since_ns);

/* The node's note, as of the opening; borrowed. */
const void *shared_log_note(const struct shared_log *l, size_t *len_out);
/* Before anything else is stored: durable on return. 0, KV_E_NOSPC, -EIO. */
int shared_log_save_note(struct shared_log *l, const void *data, size_t len);
/* With the next writes; now: durable on return, unless the disk is full (false). */
bool shared_log_put_note(struct shared_log *l, const void *data, size_t len, bool now);
/* See log_store_life(). */
uint64_t shared_log_life(const struct shared_log *l);

#endif

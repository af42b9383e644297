/* How much of the large commands (fair_queue.h) may be under way: proposed and not
 * applied, or forwarded and not answered. That is what a small one has to wait
 * behind, in log.db, on the links, in the state machine. While there are small ones
 * it is one at a time, and after each a pause twice as long as it took, so that half
 * of their rate is left to them, whatever disks, links and processors are worth just now. Without small
 * ones it may be 4 MiB. Times are clock_boot_ms(). Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_LARGE_ROOM_H
#define KVFS_KVNODE_GROUP_LARGE_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LARGE_ROOM_MIN (256UL << 10)
#define LARGE_ROOM_MAX (4UL << 20)
#define LARGE_BATCHES 1024

/* Large commands of one batch in the log. */
struct large_batch {
    uint64_t index; /* of the batch's last command */
    size_t bytes;
    uint64_t sent_ms;
};

struct large_room {
    size_t room;
    struct large_batch batches[LARGE_BATCHES]; /* a ring of what is not applied */
    size_t first, n, bytes;
    uint64_t session;      /* of the last large one */
    uint64_t small_ms;     /* when a small one of another session went out last */
    uint64_t pause_ms;     /* the small ones' share lasts until then */
    uint64_t link_full_ms; /* since when a link is full, 0: none is */
};

void large_room_init(struct large_room *r);
/* What one of so many bytes is charged. */
size_t large_room_cost(size_t len);
/* A small one goes out, or a large one. Only small ones of another session than the last
 * large one's count: a program that writes a large file does not slow itself down. */
void large_room_small(struct large_room *r, uint64_t session, uint64_t now);
void large_room_large(struct large_room *r, uint64_t session);
/* Large ones of so many bytes took so long: more or less may go from now on. */
void large_room_took(struct large_room *r, size_t bytes, uint64_t took_ms, uint64_t now);
/* As leader: these were proposed up to index; up to `applied` they are applied. */
void large_room_proposed(struct large_room *r, uint64_t index, size_t bytes, uint64_t now);
void large_room_applied(struct large_room *r, uint64_t applied, uint64_t now);
/* One more may be proposed, with `more` bytes in the batch that is being made. The
 * last may be longer than the room. */
bool large_room_has(const struct large_room *r, size_t more, uint64_t now);
/* How long a pause still lasts, 0: there is none. */
uint64_t large_room_pause(const struct large_room *r, uint64_t now);
/* So much is unsent on the fullest link: must large ones wait? After 1 s one may go
 * every 100 ms: a peer that is slow must not stop the others, and heartbeats must not
 * wait behind more and more. */
bool large_room_link_is_full(struct large_room *r, size_t unsent, uint64_t now);

#endif

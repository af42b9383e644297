/* The clients that cache what this node told them (mounts), under its read lease: what they have to forget,
 * and until when what they have is right.
 *
 *   mounts_inval()  an entry of the log touches something: INVAL to each mount
 *   mounts_bound()  up to here all have forgotten what they had to: no entry behind it may be shown anywhere
 *   mounts_beat()   what they cache is right until then: BEAT
 *
 * Who does not answer holds everybody up for what is left of the last BEAT that he was sent, once: then he
 * has nothing that counts, and hears of no more time before he has answered all, and a while after that. Loop
 * thread only. */
#ifndef KVFS_KVNODE_GROUP_MOUNTS_H
#define KVFS_KVNODE_GROUP_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

struct mount;
struct mounts;
struct stream;
struct touches;

struct mounts *mounts_new(void); /* NULL: out of memory */
void mounts_free(struct mounts *m);
/* The client behind the stream caches from now on; request: the id of its frames. looked: entries up to there
 * may be under way, and it has not heard of them. NULL: out of memory. */
struct mount *mounts_enter(struct mounts *m, struct stream *stream, uint64_t request, uint64_t looked);
/* NULL is ignored. What its kernel has still counts until the time that it was told. */
void mounts_leave(struct mounts *m, struct mount *mount);
void mounts_answered(struct mount *mount, uint64_t number, uint64_t now_ms);
/* How many there are, and how often one of them was told to forget something. */
unsigned mounts_n(const struct mounts *m);
uint64_t mounts_recalls(const struct mounts *m);
/* session: whose command it is. */
void mounts_inval(struct mounts *m, uint64_t index, uint64_t session, const struct touches *touches,
                  uint64_t now_ms);
/* UINT64_MAX: nobody is waited for. */
uint64_t mounts_bound(const struct mounts *m, uint64_t now_ms);
/* Entries behind `applied` are looked at, and told of, once more: the term has changed. */
void mounts_again(struct mounts *m, uint64_t applied);
/* until_ms: of the lease, 0: none; applied: of the state. At the end of each turn. */
void mounts_beat(struct mounts *m, bool in_force, uint64_t until_ms, uint64_t applied, uint64_t now_ms);
/* Until when somebody has what counts, those that left included; 0: nobody. */
uint64_t mounts_until(const struct mounts *m);
unsigned mounts_count(const struct mounts *m);

#endif

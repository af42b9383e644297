/* What commands that are in the log, and not applied yet, may change when they are: for those who
 * keep answers (read leases). They have to forget, before a command becomes visible anywhere, whatever of it
 * they have kept, and must not keep anew what a command that they know of may change.
 *
 *   touch_add()       a command is in the log: what is to be forgotten now
 *   touch_on()        does any of those not applied change this? then wait for it, or do not keep the answer
 *   touch_applied()   the oldest one was applied
 *
 * The state that a command meets when it is applied is another one than now: those before it change it. What
 * it may change is found in the state as it is now, and once more when one before it that shares a name with
 * it has been applied. That suffices for commands that name a directory by its number, since what they come
 * to find there was changed by the one before, too. It does not for one that walks a path on which something
 * is about to be moved or linked, or to come or go: that one is taken to change everything, until those
 * before it have been applied. So is what nobody looks into: transactions, what is pruned, what expires in
 * numbers.
 *
 * Pure, as store.h is; loop thread only. */
#ifndef KVFS_KVNODE_STATE_TOUCH_H
#define KVFS_KVNODE_STATE_TOUCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvnode/state/store.h"

enum touch_what {
    TOUCH_ATTR = 1,  /* what stat(2) says of it, the times of directories included; its extended attributes */
    TOUCH_DATA = 2,  /* its content */
    TOUCH_NAMES = 4, /* which names are in it, and what they stand for */
    TOUCH_ANY = 7
};

struct touch {
    uint64_t ino;
    uint8_t what;
};

#define TOUCH_MAX 6
struct touches {
    bool all; /* everything: then `of` is empty */
    unsigned n;
    struct touch of[TOUCH_MAX];
};

struct touch_list;

struct touch_list *touch_list_new(void); /* NULL: out of memory */
void touch_list_free(struct touch_list *l);
/* The command at index, above all that are in the list. bytes: as in the log (borrowed until it is
 * applied or cut). What does not decode changes nothing. 0 or -ENOMEM. */
int touch_add(struct touch_list *l, const struct store *s, uint64_t index, const void *bytes, size_t len,
              struct touches *touches_out);
/* The store has applied everything up to index. */
void touch_applied(struct touch_list *l, const struct store *s, uint64_t index);
/* Those from index on are not in the log any more. */
void touch_cut(struct touch_list *l, uint64_t index);
/* The newest one, at most `upto`, that may change this of the inode; 0: none does. */
uint64_t touch_on(const struct touch_list *l, uint64_t ino, uint8_t what, uint64_t upto);
/* The newest one, at most `upto`, that may change what this name in the directory stands for. */
uint64_t touch_on_name(const struct touch_list *l, uint64_t parent, const void *name, size_t len,
                       uint64_t upto);
/* The newest one, at most `upto`, that may change this name in the directory, or anything of the inode that
 * it stands for now. */
uint64_t touch_on_entry(const struct touch_list *l, const struct store *s, uint64_t parent, const void *name,
                        size_t len, uint64_t upto);
/* The same of a path from the root (command.h), with the directories that it goes through. */
uint64_t touch_on_path(const struct touch_list *l, const struct store *s, const void *path, size_t len,
                       uint64_t upto);
/* The newest one, at most `upto`, that may move something, a directory too: then what was opened by its
 * number may have come there by a path that leads elsewhere. */
uint64_t touch_on_move(const struct touch_list *l, uint64_t upto);
/* The newest of all, at most `upto`, that are not applied; 0: none. */
uint64_t touch_newest(const struct touch_list *l, uint64_t upto);
size_t touch_count(const struct touch_list *l);

#endif

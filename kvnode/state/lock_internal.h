/* What the files about locks share. Not for others.
 *
 *   lock_table ──ino──► locked_file ──kind──► lock_side ─┬─ holders, by session and owner
 *                                                        └─ waits, in the order of the log
 *   session ──► session_locks ─┬─ its holders
 *                              └─ its waits
 *
 * Every list is in an order that the replicated state gives, so that it is the same on a node that has
 * loaded the state as on one that has applied the commands. Each range and each wait is a row. */
#ifndef KVFS_KVNODE_STATE_LOCK_INTERNAL_H
#define KVFS_KVNODE_STATE_LOCK_INTERNAL_H

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/lock_ranges.h"

struct locked_file;

/* Who: an open file of a mount's for flock(2), a process or an open file for ranges. */
struct lock_who {
    struct session_locks *of; /* borrowed */
    uint64_t owner;
    uint32_t pid; /* as the first command said it, by this node */
    uint8_t node_len;
    char node[COMMAND_NODE_MAX];
};

struct lock_holder {
    TAILQ_ENTRY(lock_holder) in_side;    /* lock_side.holders */
    TAILQ_ENTRY(lock_holder) in_session; /* session_locks.holders */
    struct locked_file *file;            /* borrowed */
    uint8_t kind;
    struct lock_who who;
    struct lock_ranges ranges; /* not empty but for a moment */
};

/* Of a file whose table a session has for itself: nothing is locked here meanwhile, and who waits, waits
 * until it is given back. */
struct lock_delegation {
    TAILQ_ENTRY(lock_delegation) in_session; /* session_locks.delegations */
    struct locked_file *file;                /* borrowed */
    struct lock_who who;                     /* whose first lock took it; owner 0 */
    uint64_t epoch;                          /* log index of its command */
};

struct lock_wait {
    TAILQ_ENTRY(lock_wait) in_side;    /* lock_side.waits */
    TAILQ_ENTRY(lock_wait) in_session; /* session_locks.waits */
    struct locked_file *file;          /* borrowed */
    uint8_t kind;
    struct lock_who who;
    uint64_t start, end;
    enum lock_mode mode;
    uint64_t id; /* log index of its command */
    uint64_t ticket;
    bool tries, asks; /* of a table that a session has: it ends when that is given back; without a lock */
};

TAILQ_HEAD(lock_delegations, lock_delegation);
TAILQ_HEAD(lock_holders, lock_holder);
TAILQ_HEAD(lock_waits, lock_wait);

struct lock_side {
    struct lock_holders holders; /* by session, then owner */
    struct lock_waits waits;     /* by id */
};

struct locked_file {
    RB_ENTRY(locked_file) tree; /* lock_table.files, by ino */
    uint64_t ino;
    struct lock_side sides[LOCK_KINDS];
    uint32_t n_ranges, n_waits;
    struct lock_delegation *delegation; /* owned; NULL: the table is everybody's */
};

RB_HEAD(locked_files, locked_file);
RB_PROTOTYPE(locked_files, locked_file, tree, locked_file_compare)

struct session_locks {
    RB_ENTRY(session_locks) order;       /* lock_table.leases, by until_ms, id */
    uint64_t until_ms;                   /* when it ends if it is silent */
    struct session *session;             /* borrowed: it owns this */
    struct lock_holders holders;         /* by file, kind and owner */
    struct lock_waits waits;             /* by id */
    struct lock_delegations delegations; /* by epoch */
    uint32_t n;                          /* ranges, waits and delegations */
};

RB_HEAD(session_leases, session_locks);
RB_PROTOTYPE(session_leases, session_locks, order, session_locks_compare)

/* A wait that has ended with the command that is being applied. */
struct ended_wait {
    uint64_t ino, session, ticket; /* ticket 0: a table that is wanted, code is its epoch */
    uint64_t code;
};

struct lock_table {
    struct locked_files files;
    struct session_leases leases;
    uint32_t n, n_users;      /* ranges and waits of all, of users */
    uint32_t looked_at;       /* by the walks of this command: holders */
    struct ended_wait *ended; /* owned */
    size_t n_ended, cap_ended;
};

/* lock_lease.c */
void session_locks_enter(struct lock_table *t, struct session_locks *of);
void session_locks_leave(struct lock_table *t, struct session_locks *of);

struct locked_file *locked_file_find(const struct lock_table *t, uint64_t ino);
void lock_holder_row(const struct lock_holder *h, size_t i, struct lock_row *row_out);
void lock_wait_row(const struct lock_wait *w, struct lock_row *row_out);
/* The first holder but `who` whose lock is in the way; NULL: none. range_out may be NULL. */
const struct lock_holder *lock_conflict(const struct lock_side *side, const struct lock_who *who,
                                        uint64_t start, uint64_t end, enum lock_mode mode,
                                        const struct lock_range **range_out);
/* Both make what is missing; NULL: out of memory. */
struct locked_file *locked_file_get(struct lock_table *t, uint64_t ino);
struct session_locks *session_locks_get(struct store *s, struct session *ss);
struct lock_holder *lock_holder_get(struct locked_file *f, uint8_t kind, const struct lock_who *who);
struct lock_wait *lock_wait_new(struct store *s, struct locked_file *f, uint8_t kind,
                                const struct lock_who *who, uint64_t id);
/* Frees them if there is nothing in them any more. */
void locked_file_put(struct lock_table *t, struct locked_file *f);
void session_locks_put(struct store *s, struct session *ss);
bool lock_same_owner(const struct lock_who *a, const struct lock_who *b);
/* NULL: he has none there. */
struct lock_holder *lock_holder_find(const struct lock_side *side, const struct lock_who *who);
void lock_holder_put(struct lock_holder *h);
/* Memory only. */
void lock_wait_free(struct store *s, struct lock_wait *w);
/* lock_wait_free(), and its row. */
void lock_wait_end(struct store *s, struct lock_wait *w);
void lock_row_comes(struct store *s, const struct lock_row *row);
void lock_row_goes(struct store *s, const struct lock_row *row);
struct lock_row lock_row_of(const struct locked_file *f, uint8_t kind, const struct lock_who *who);
/* 0 or -ENOMEM. h may have no range afterwards: lock_holder_put(). */
int lock_holder_set(struct store *s, struct lock_holder *h, uint64_t start, uint64_t end,
                    enum lock_mode mode);

/* lock_wait.c. Whether one of those for whom it would wait waits, by others or not, for who himself. */
bool lock_is_deadlock(struct lock_table *t, const struct lock_side *side, const struct lock_who *who,
                      uint64_t start, uint64_t end, enum lock_mode mode);
bool lock_waits_elsewhere(struct lock_table *t, const struct lock_who *who);
/* An owner with several threads has got something here, and waits elsewhere. 0 or -ENOMEM. */
int lock_end_deadlocks(struct store *s, struct lock_side *side);
/* Something became free there. 0 or -ENOMEM. */
int lock_wake(struct store *s, struct locked_file *f, uint8_t kind);

/* 0 or -ENOMEM. */
int lock_note_ended(struct lock_table *t, const struct lock_wait *w, int code);
/* Its session is to be told that it is wanted. 0 or -ENOMEM. */
int lock_note_wanted(struct lock_table *t, const struct lock_delegation *d);
/* w has what it waits for. *freed_out: it is a weaker lock than there was. 0 or -ENOMEM. */
int lock_grant(struct store *s, struct lock_wait *w, bool *freed_out);

/* lock.c. Whether there is no room for so many more. */
bool lock_is_full(const struct store *s, const struct session_locks *of, size_t more);
/* Whether it is the lock of SQLite's index of a write-ahead log, and that is in use on another mount: then it
 * is nobody's to share, and nobody waits for it. */
bool lock_is_elsewhere(const struct store *s, const struct locked_file *f, uint8_t kind,
                       const struct lock_who *who, uint64_t start, uint64_t end);
struct lock_who lock_who_of(const struct apply *ap, struct session_locks *of);
/* The command's wait begins: KV_OK or -ENOMEM; if there is room for it: KV_OK or KV_E_NOLCK. */
int lock_wait_begin(struct apply *ap, struct locked_file *f, const struct lock_who *who, bool tries,
                    bool asks);
int lock_wait_room(const struct apply *ap, const struct locked_file *f, const struct lock_who *who);

/* lock_delegated.c */
void lock_delegation_row(const struct lock_delegation *d, struct lock_row *row_out);
/* Memory only. NULL: out of memory. */
struct lock_delegation *lock_delegation_new(struct store *s, struct locked_file *f,
                                            const struct lock_who *who, uint64_t epoch);
void lock_delegation_free(struct store *s, struct lock_delegation *d);
/* Whether there is room for one more, without taking it from locks. */
bool lock_may_delegate(const struct store *s, const struct session_locks *of);
/* The session gets the whole table of a file in which there is nothing. */
int lock_delegate(struct apply *ap, struct locked_file *f, const struct lock_who *who);
/* A lock of a file whose table a session has. */
int lock_recall(struct apply *ap, struct locked_file *f, const struct lock_who *who);
/* The session ends: its tables are everybody's again. */
void session_undelegate(struct store *s, struct session_locks *of);

/* Counts a range more, or fewer. */
void lock_count(struct store *s, struct session_locks *of, struct locked_file *f, int ranges, int waits);

#endif

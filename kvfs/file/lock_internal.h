/* What the files about locks share. Not for others. */
#ifndef KVFS_KVFS_FILE_LOCK_INTERNAL_H
#define KVFS_KVFS_FILE_LOCK_INTERNAL_H

#include "kvfs/file/files.h"

struct held_lock {
    TAILQ_ENTRY(held_lock) link;
    uint64_t ino;
    uint8_t kind;
    uint64_t owner;
    pid_t process;
    struct handle *handle; /* borrowed; through which it was locked last; NULL: released */
    struct lock_ranges ranges;
};

enum lock_state {
    LOCK_BEHIND,     /* what the same owner unlocks is not done yet, or who has the table is not clear */
    LOCK_FRESHENING, /* this mount has the table, and asks whether it has it still */
    LOCK_ASKED,      /* the command is out, or (no call) is to be sent once more */
    LOCK_QUEUED,     /* it waits in the cluster */
    LOCK_UNWAITING,  /* UNWAIT is out */
    LOCK_GRANTED,    /* the kernel drops what is older */
    LOCK_PUBLISHING  /* to unlock: what the process has staged comes first */
};

struct lock_request {
    TAILQ_ENTRY(lock_request) link;
    uint64_t serial; /* its ticket, too */
    fuse_req_t req;  /* NULL: answered */
    struct lock_wish wish;
    enum lock_state state;
    struct call *call;  /* borrowed: what is under way */
    bool closing;       /* unlock, whatever comes */
    bool restores;      /* makes the cluster know what this mount does */
    bool takes;         /* ASKED: for the whole table */
    bool fresh;         /* FRESHENING has ended well */
    bool published;     /* to unlock: what the process has staged is */
    bool tests;         /* F_GETLK: takes nothing, waits until no other mount has the table */
    bool asked_again;   /* it may wait in the cluster since an earlier time */
    bool ended, missed; /* ASKED: the wait's event came before the answer; or it may have been missed */
    int ended_code;
    int err; /* for the answer */
    uint64_t started_ms, interrupted_ms;
    uint64_t *inos; /* owned: PUBLISHING: files to be published */
    size_t n_inos, next_ino;
};

/* lock_held.c. NULL: nothing. */
struct held_lock *lock_held_find(const struct files *files, uint64_t ino, uint8_t kind, uint64_t owner);
/* What the program was told. False: out of memory. */
bool lock_held_set(struct files *files, const struct lock_wish *w);
void lock_held_free(struct locks *locks, struct held_lock *h);
bool lock_has_written(const struct file *f, pid_t process);
/* Others shall learn of our end soon while there is something that they may wait for. */
void lock_renew(struct files *files);

/* It is lost, and its process is fenced. */
void lock_lose(struct files *files, struct held_lock *h, const char *why);

/* lock_delegated.c. Who has the table is not clear: nothing of the file may be decided. */
bool lock_is_between(const struct files *files, uint64_t ino);
/* To unlock: whether even that has to wait, since a command about the table is out; and whether it is done
 * by lock_leave_here(), also when the table is to be given back and could not be yet. */
bool lock_is_moving(const struct files *files, uint64_t ino);
bool lock_is_left_here(const struct files *files, uint64_t ino);
/* The cluster has heard of this mount, and it of all that others have acknowledged, until now. */
bool lock_is_fresh(const struct files *files);
/* This mount has it: it is decided here, by lock_take_here() and lock_leave_here(). */
bool lock_is_here(const struct files *files, uint64_t ino);
void lock_take_here(struct files *files, struct lock_request *r);
void lock_leave_here(struct files *files, struct lock_request *r);
/* Before r is asked for: sets r->takes if it is to ask for the table as well. Its answer is lock_taken(). */
void lock_may_take(struct files *files, struct lock_request *r);
void lock_taken(struct files *files, struct lock_request *r, uint64_t epoch);
/* Others were seen to lock there. */
void lock_shared(struct files *files, uint64_t ino);
bool lock_level_delegates(const struct files *files);
bool lock_has_delegations(const struct files *files);
/* Events were missed: all are given back. The session has ended: none is had. */
void lock_want_all(struct files *files);
void lock_delegations_lost(struct files *files);
void lock_delegations_tick(struct files *files, uint64_t now_ms);
void lock_delegations_deinit(struct locks *locks);

/* lock_test.c: again, when no other mount has the table. */
void lock_test_again(struct files *files, struct lock_request *r);

/* lock_request.c. NULL: req was answered. */
struct lock_request *lock_request_new(struct files *files, fuse_req_t req, uint64_t serial,
                                      const struct lock_wish *wish);
struct lock_request *lock_request_find(struct files *files, uint64_t serial);
/* Of a call that was answered: it has none any more. NULL: it is gone. */
struct lock_request *lock_request_of(const struct call *call);
void lock_request_free(struct files *files, struct lock_request *r);
void lock_answer(struct lock_request *r, int err);
void lock_finish(struct files *files, struct lock_request *r, int err);
/* A call for a request. NULL: out of memory. */
struct call *lock_call(struct files *files, const struct lock_wish *w, uint64_t serial);
bool lock_on_new_session(struct call *call, bool executed);
/* It was not executed, and may be another time. */
bool lock_is_for_now(int code);
struct command_body lock_body(const struct lock_wish *w, uint64_t ticket);
/* The cluster may have given what the program was not told of: what it has there is to be what it knows. */
void lock_give_back(struct files *files, const struct lock_wish *wish);

/* lock_leave.c */
void lock_start_leaving(struct files *files, struct lock_request *r);
void lock_leave(struct files *files, struct lock_request *r);

/* lock.c */
void lock_ask(struct files *files, struct lock_request *r);
/* The lock is there: the kernel drops what is older, then the program is told. */
void lock_granted(struct files *files, struct lock_request *r);
/* It is not to wait in the cluster any more. */
void lock_unwait(struct files *files, struct lock_request *r);
/* Something is done that others may have waited for. */
void lock_start_behind(struct files *files);

#endif

/* The players of the race: processes, some on each mount, that do what programs do with names, sizes, times,
 * content, locks and appended records, all with the same ones, and note what they saw. They play rounds,
 * between which nobody plays; a round has a directory of its own. */
#ifndef KVFS_TESTS_MOUNT_RACE_PLAYERS_H
#define KVFS_TESTS_MOUNT_RACE_PLAYERS_H

#include "tests/fault/lib/raw.h"
#include "tests/fault/lib/watch.h"
#include "tests/mount/race/notes.h"

#define MOUNTS 3
#define LOOKERS 3                  /* a mount, who play with the registers */
#define CREW (LOOKERS + ROLES - 1) /* a mount */
#define PLAYERS (MOUNTS * CREW)
#define NAMES 3
#define RECORDS_MAX 400 /* in a round */
#define RECORD_MAX 5000 /* bytes */
#define EXCLUSIVE_MAX 2000

enum role { ROLE_REGISTERS, ROLE_LOCKS, ROLE_RECORDS, ROLE_EXCLUSIVE, ROLES };

enum register_id {
    R_REPLACED, /* a file that others are renamed over: content and size say which one it is */
    R_SIZE,     /* a file that is truncated */
    R_MTIME,    /* one whose time is set */
    R_PLACE,    /* one that is written in place by the players of mount 0, and read on the others */
    R_PLACE_1,  /* … of mount 1 */
    R_PLACE_2,
    R_FILES, /* files that are made, removed and renamed in one directory */
    R_DIRS,  /* directories */
    R_APART, /* files, each name in a directory of its own */
    R_MOVED, /* a directory with something in it, renamed from name to name */
    REGISTERS
};

/* What a violation is one of. */
enum kind_of_fault {
    FAULT_NAME,    /* a name is there that is gone */
    FAULT_MISSING, /* one is missing that is there */
    FAULT_LISTING,
    FAULT_SIZE, /* or time: attributes */
    FAULT_DATA, /* content by a descriptor or a mapping */
    FAULT_OPEN, /* content by name */
    FAULT_LOCK,
    FAULT_APPEND,
    FAULT_OTHER, /* an errno that may not be, … */
    FAULTS
};

enum counted_by { BY_FLOCK, BY_FCNTL, BY_OFD, COUNTERS };

/* What became of one lock, for people. */
#define EVENTS_MAX 4096
struct lock_event {
    int64_t at;
    unsigned player;
    const char *what; /* a literal */
    int64_t number;
};

struct counter {
    _Atomic unsigned owner, readers;          /* who has the lock, as they believe */
    _Atomic uint64_t acknowledged, attempted; /* numbers that were written */
    _Atomic unsigned locked, shared, refused;
    _Atomic unsigned n_events;
    struct lock_event events[EVENTS_MAX]; /* a ring */
};

struct exclusive {
    _Atomic unsigned arrived;
    _Atomic int64_t go;
    _Atomic unsigned answered, won, unknown;
};

struct race {
    _Atomic unsigned round; /* they play it */
    _Atomic bool playing, over;
    _Atomic unsigned finished[PLAYERS]; /* the last round that they have ended */
    _Atomic unsigned done[PLAYERS + 1]; /* calls that were answered; for progress */
    _Atomic unsigned down[MOUNTS];      /* odd: the mount is taken away. Even numbers count how often */
    _Atomic unsigned stopped[MOUNTS];   /* odd: kvfs does not run, or has not caught up */
    _Atomic unsigned long found[FAULTS];
    _Atomic unsigned long counts[REGISTERS][HOWS]; /* answered */
    _Atomic unsigned long appended, logs_read, created_once, unknown, statics;
    _Atomic uint32_t written[REGISTERS]; /* a futex: writes that were acknowledged */
    /* In rounds with faults: zeros were read in place of records, records of before the open were missing at
     * first, calls ended in ESTALE. */
    _Atomic unsigned long zeros, old, stale;
    _Atomic unsigned long chased;       /* looked at again just when somebody had written */
    _Atomic unsigned values[REGISTERS]; /* the last that was given to a writer */
    struct notes registers[REGISTERS];
    struct counter counters[COUNTERS];
    _Atomic unsigned records[PLAYERS];          /* appended, or perhaps, in this round */
    _Atomic uint8_t kept[PLAYERS][RECORDS_MAX]; /* 1: acknowledged */
    struct exclusive exclusive[EXCLUSIVE_MAX];
    _Atomic unsigned exclusive_at[MOUNTS];
    bool quiet;           /* faults are planted: violations are counted, and not printed */
    bool faults;          /* calls may fail */
    bool planted[MOUNTS]; /* its players append without O_APPEND, and those of registers only look */
};

struct player {
    unsigned n, mount, round;
    enum role role;
    const char *path; /* of the mount */
    struct watched *slot;
    struct dice dice;
    unsigned temporaries, locks_tried;
    int fds[REGISTERS];
    void *maps[REGISTERS];
    unsigned down; /* as of opening them */
};

/* The test's; set before the first player. */
extern struct race *race;

__attribute__((format(printf, 2, 3))) void violation(enum kind_of_fault kind, const char *fmt, ...);
/* A path in the round's directory; valid until the eighth call from then. */
__attribute__((format(printf, 2, 3))) const char *at(const struct player *p, const char *fmt, ...);
/* Makes the round's directory, with what is there at the beginning, through the player's mount, and notes
 * that. False: it does not succeed. */
bool round_prepare(struct player *p);
/* Removes it and what is in it. */
void round_remove(struct player *p);
/* When nobody plays: what has to hold in the end, seen through this mount. */
void round_check_end(struct player *p);
/* Until the race is over. Does not return. */
void play(struct player *p);

/* Every system call on a mount is made between a pair of these. */
#define CALL(p, result, call, ...)                                                                           \
    do {                                                                                                     \
        watch_enter((p)->slot, __VA_ARGS__);                                                                 \
        (result) = (call);                                                                                   \
        watch_leave((p)->slot);                                                                              \
    } while (0)

/* What a call that failed tells. harmless: an errno that tells something of the state, 0: none. */
enum outcome outcome_of(struct player *p, const char *what, const char *path, int err, int harmless);
/* Closes a descriptor, if it is one. An errno. */
int shut(struct player *p, int fd, const char *path);

/* One turn each. */
void play_registers(struct player *p);
void play_locks(struct player *p);
void play_records(struct player *p);
void play_exclusive(struct player *p);
/* Seen through this player's mount, when nobody plays. */
void check_counters(struct player *p);
void check_records(struct player *p);
void check_exclusive(void);
/* Closes what a player of registers keeps open. */
void registers_close(struct player *p);
void registers_init(struct player *p);
/* Of the round's directory: make what is there at first. False: it does not succeed. */
bool registers_prepare(struct player *p);
bool together_prepare(struct player *p);

#endif

/* The clients of the chaos test: programs on mounts and callers of the nodes'
 * sockets, which note in the history what they did and what came of it. They run in
 * processes of their own; what they share is mapped before the first fork. */
#ifndef KVFS_TESTS_FAULT_CHAOS_CLIENTS_H
#define KVFS_TESTS_FAULT_CHAOS_CLIENTS_H

#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/history.h"
#include "tests/fault/lib/raw.h"
#include "tests/fault/lib/watch.h"

#define MOUNTS 2
#define THREADS 3 /* a mount, and as many callers */
#define WORKERS ((MOUNTS + 1) * THREADS)
#define KEYS 6 /* in use at a time; each set for two rounds */
#define CALLER_MS 12000

struct shared {
    _Atomic bool stop;
    _Atomic unsigned generation;            /* which keys are in use */
    _Atomic unsigned acknowledged[WORKERS]; /* operations */
    _Atomic unsigned violations, stale, programs;
};

struct worker {
    unsigned n;           /* among all */
    const char *path;     /* of the mount; NULL: a caller */
    struct watched *slot; /* of the watch */
    struct dice dice;
    unsigned temporaries;
};

/* The test's; set before the first worker. */
extern struct cluster *cluster;
extern struct shared *shared;
extern struct history *history;
extern struct watch *watch;

void violation(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A thread: until shared->stop. arg: struct worker. */
void *work(void *arg);
/* One read each, noted as any other; false: it got no answer. */
bool look(struct worker *w, unsigned key, const char *path);
bool ask_for(struct worker *w, struct caller *c, unsigned key, const char *name);

#endif

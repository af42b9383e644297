/* A log store in a directory of its own, and a waiting reader of its completions. */
#ifndef KVFS_TESTS_UNIT_RAFT_STORE_RIG_H
#define KVFS_TESTS_UNIT_RAFT_STORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>
#include <stdbool.h>

#include "sync/raft/log/log_store.h"

struct store_rig {
    char directory[128], path[160];
    bool mounted;
    struct log_store *store;
    sem_t news;
    unsigned appended, resets;
    char why[LOG_STORE_ERROR_LEN];
};

void store_rig_setup(struct store_rig *r);
/* On a tmpfs of that many KiB; false: not permitted here. */
bool store_rig_setup_small(struct store_rig *r, unsigned kib);
void store_rig_teardown(struct store_rig *r);

int store_rig_open(struct store_rig *r); /* log_store_open() */
void store_rig_close(struct store_rig *r);
/* Opens, loads group 0; the caller deinits *out. */
void store_rig_load(struct store_rig *r, struct log_store_log *out);
int store_rig_try_load(struct store_rig *r, struct log_store_log *out);

/* Appends entries index .. index + n - 1 of that term, len bytes each. */
void store_rig_append(struct store_rig *r, uint64_t index, unsigned n, uint64_t term, size_t len);
/* Until that many appends and resets were reported, at most ten seconds. */
void store_rig_wait(struct store_rig *r, unsigned appended, unsigned resets);
/* Until the state is that one, at most ten seconds. */
void store_rig_wait_state(struct store_rig *r, enum log_store_state state);
struct snapshot_meta store_rig_meta(uint64_t index, uint64_t term);
/* What the entry at index of that term must contain. */
bool store_rig_is(const struct entry *e, uint64_t index, uint64_t term);

#endif

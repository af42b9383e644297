/* A world with a state.db in a directory of its own, and restarts. */
#ifndef KVFS_TESTS_UNIT_STORE_PLACE_H
#define KVFS_TESTS_UNIT_STORE_PLACE_H

#include "kvnode/disk/history.h"
#include "kvnode/disk/writeback.h"
#include "tests/unit/store/world.h"

struct place {
    struct world w;
    char dir[64];
    char path[96]; /* dir/state.db */
    struct writeback *wb;
    struct history_reader *history; /* opened by place_history() */
    char error[STATE_DB_ERROR_MAX];
};

void place_init(struct place *p);
void place_deinit(struct place *p); /* and the directory */
/* Both for cmocka: a place of each test's own is its state. */
int place_setup(void **state);
int place_teardown(void **state);
int place_teardown_whole(void **state); /* and asserts that memory and file agree */
/* Everything applied is committed (and durable). */
void place_flush(struct place *p);
/* As after the end of the process: writer stopped, state loaded from the file
 * into a new store. Aborts if it cannot. */
void place_restart(struct place *p);
struct history_reader *place_history(struct place *p);
/* History of a key, newest first: "3 2a 2 2x 1" (a: attributes, x: tombstone,
 * *: current). Static. */
const char *place_versions(struct place *p, const char *path);
/* Content of a version (static), or "(code)". */
const char *place_version(struct place *p, const char *path, uint64_t version);
/* state_db_verify() finds the digest of the store. */
bool place_verifies(struct place *p);

#endif

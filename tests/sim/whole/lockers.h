/* lockers.c: mounts that lock files. */
#ifndef KVFS_TESTS_SIM_WHOLE_LOCKERS_H
#define KVFS_TESTS_SIM_WHOLE_LOCKERS_H

#include "kvnode/group/removal.h"
#include "sync/wire/message.h"
#include "tests/sim/whole/whole.h"

void lockers_start(void);
void lockers_stop(void); /* nothing new is begun */
void lockers_free(void);
void lockers_host_crashed(struct host *h);
/* The host reports an event. */
void lockers_event(struct host *h, const struct event *e);
/* Of all runs: locks that were had by commands, and in tables; tables given back. */
void lockers_count(uint64_t *granted_out, uint64_t *here_out, uint64_t *given_back_out);

#endif

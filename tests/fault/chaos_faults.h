/* What the chaos test does to its nodes: one fault a round, from a deck that holds
 * each kind once, and now and then a clock that jumps besides. */
#ifndef KVFS_TESTS_FAULT_CHAOS_FAULTS_H
#define KVFS_TESTS_FAULT_CHAOS_FAULTS_H

#include <stddef.h>

#include "tests/disk/lib/disk.h"
#include "tests/fault/lib/raw.h"

#define NODES 3

/* Puts the nodes of `cluster`, which do not run yet, on disks that can fail. With
 * none here (disk_unavailable()) disks do not fail. False: the reason is on stderr. */
bool faults_init(struct dice *dice);
/* Strikes with the next fault and lets it last; text_out says what it was. It goes
 * on until faults_heal(). Without a leader, or when a node goes on on a disk that fails,
 * that is a violation. */
void faults_strike(struct dice *dice, unsigned ms, char *text_out, size_t size);
/* All is well again: nodes that are down are started. */
void faults_heal(void);
/* How often there was what. */
void faults_print(void);
/* Ends the nodes and takes the disks away. False: a node was dead. */
bool faults_deinit(void);

#endif

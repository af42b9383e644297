/* What happens to nodes and mounts while the players play. */
#ifndef KVFS_TESTS_MOUNT_RACE_FAULTS_H
#define KVFS_TESTS_MOUNT_RACE_FAULTS_H

#include "tests/mount/race/players.h"

/* cluster, mounts: MOUNTS of them, in memory that the watch shares. kills: mounts are killed as well; the
 * locks that they have hold others up for ten seconds. */
void faults_begin(struct cluster *cluster, struct mounted *mounts, struct dice *dice, bool kills);
/* Strikes with the next one of a deck that holds each once, lets it last, and ends it. text_out: what it was.
 * False: what was struck does not come up again. */
bool faults_next(char *text_out, size_t size);
/* Takes a mount away by a kill of its process, and mounts again with these options. False: it does not come.
 */
bool faults_mount_again(unsigned m, const char *options);
/* A node, off from the others or back. */
void faults_cut(unsigned node, bool cut);
void faults_print(void);

#endif

/* The text of a private sshd's configuration. Internal to sshd. */
#ifndef KVFS_SYNC_SSH_SSHD_CONFIG_H
#define KVFS_SYNC_SSH_SSHD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "sync/ssh/sshd.h"

struct buffer;

/* Who may write to a file that sshd will trust, judged over the whole path. */
enum path_safety {
    PATH_SAFE,    /* as sshd's StrictModes asks: only root and this user, up to the root */
    PATH_STICKY,  /* the same, but for sticky directories on the way (/tmp), which StrictModes refuses */
    PATH_EXPOSED, /* others may write or replace it */
};

/* Looks at path if it exists, and at each directory above it. On PATH_EXPOSED
 * culprit_out is the directory or file. */
enum path_safety sshd_path_safety(const char *path, char *culprit_out, size_t size);

/* Appends the configuration; user is the account that peers log in to. */
void sshd_config_write(const struct sshd_config *c, const char *user, bool strict_modes,
                       bool source_penalties, struct buffer *b);

#endif

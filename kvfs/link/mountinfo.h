/* /proc/PID/mountinfo, see proc(5): a line is
 *
 *   id parent-id major:minor root point options … - type source super-options
 *
 * Pure. */
#ifndef KVFS_KVFS_LINK_MOUNTINFO_H
#define KVFS_KVFS_LINK_MOUNTINFO_H

#include <stdbool.h>

struct mount_line {
    long id, parent;
    const char *device; /* "major:minor" */
    const char *root;   /* the directory of the file system that is mounted */
    const char *point;  /* where */
    const char *type;
};

/* Takes a line apart, which is changed; all of *out borrows from it. False: it is cut short. */
bool mountinfo_parse(char *line, struct mount_line *out);

#endif

/* Files that are compiled in (embed.py): the description of the API, and the page. */
#ifndef KVFS_KVNODE_WEB_STATIC_H
#define KVFS_KVNODE_WEB_STATIC_H

#include <stddef.h>

struct static_file {
    const char *path; /* its address */
    const char *type; /* Content-Type */
    const unsigned char *data;
    size_t len;
};

/* Ends with one without a path. */
extern const struct static_file static_files[];

#endif

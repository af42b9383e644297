/* What publish compares: a local tree and what is below a key; and what has to be done. Internal to
 * publish*.c. */
#ifndef KVFS_KVNODE_ADMIN_PUBLISH_H
#define KVFS_KVNODE_ADMIN_PUBLISH_H

#include "kvnode/admin/request.h"

struct tree_entry {
    char *path;   /* owned; below the root, without a slash at the beginning */
    uint8_t type; /* enum inode_type */
    uint16_t mode;
    uint64_t size, ino;
    char *target; /* owned; of a local symbolic link */
};

/* Sorted by path: directories before what is in them. */
struct tree {
    struct tree_entry *entries; /* owned */
    size_t n, cap;
};

void tree_free(struct tree *t);
/* What is below a local directory. Prints what is wrong with it: a file that is no file, directory or link, a
 * name that kvfs refuses. into: the key that it goes to. An exit status. */
int tree_read_local(const struct admin *a, const char *root, const char *into, struct tree *out);
/* What is below a key; nothing if there is none of that name. 0, KV_E_NOTDIR, KV_E_*, -errno. */
int tree_read_remote(struct request_link *l, const char *key, struct tree *out);
/* The whole of a local file, at most `most` bytes and one more. -errno. */
int tree_load(const char *root, const char *path, uint64_t most, struct buffer *out);

enum change_kind {
    CHANGE_CLEAR, /* a name goes that becomes something of another kind */
    CHANGE_MKDIR,
    CHANGE_SET,    /* content; as new with mode 0644 */
    CHANGE_STAGED, /* made aside first, then moved into its place: with a mode, or a link */
    CHANGE_MODE,   /* of a directory that is there */
    CHANGE_DEL
};

struct change {
    enum change_kind kind;
    const struct tree_entry *local, *remote; /* borrowed; NULL: there is none */
};

struct changes {
    struct change *list; /* owned; in the order in which they have to be done */
    size_t n, cap;
    size_t added, replaced, deleted, modes, unchanged, cleared, staged;
    uint64_t bytes;
};

/* What makes remote equal to local. 0, KV_E_*, -errno: of a file that could not be compared, *culprit. */
int changes_find(struct request_link *l, const char *root, const char *into, const struct tree *local,
                 const struct tree *remote, struct changes *out, const char **culprit);
void changes_free(struct changes *c);

#endif

/* The trees that kvfs makes up: DIR/.versions and /.kvfs.
 *
 * Their inode numbers have VIRTUAL_BIT set, which real ones (group << 48 | number)
 * never have. Listings are made when a directory is opened and never cached by
 * the kernel; the content of a version never changes and may be cached for ever.
 * Each tree fills in one operations table. */
#ifndef KVFS_KVFS_VIRTUAL_VIRTUAL_H
#define KVFS_KVFS_VIRTUAL_VIRTUAL_H

#include <stdbool.h>

#include "kvfs/link/call.h"
#include "sync/base/hash.h"

#define VIRTUAL_BIT (UINT64_C(1) << 63)
#define VIRTUAL_VERSIONS_NAME ".versions"
#define VIRTUAL_CONTROL_NAME ".kvfs"

struct virtual_node;

/* Each answers or ends the call. */
struct virtual_ops {
    void (*lookup)(struct call *call, struct virtual_node *parent);
    void (*opendir)(struct call *call, struct virtual_node *v);
    void (*open)(struct call *call, struct virtual_node *v);
    void (*read)(struct call *call, struct virtual_node *v);
    void (*readlink)(struct call *call, struct virtual_node *v);
    void (*xattrs)(struct call *call, struct virtual_node *v); /* GETXATTR, LISTXATTR; NULL: has none */
};

struct virtual_node {
    UT_hash_handle by_id, by_key;
    uint64_t id; /* with VIRTUAL_BIT */
    char *key;   /* owned; what makes it this node */
    uint64_t nlookup;
    const struct virtual_ops *ops;
    uint64_t directory; /* whose history this is */
    char *name;         /* owned; the key in it, or NULL */
    uint64_t number;    /* the version, or which control file */
    bool deleted;       /* the mark of a deletion: empty */
    struct attr attr;
};

/* The part of a mount that this folder keeps (see hub.h). */
struct virtual_table {
    struct hub *hub;                 /* borrowed */
    struct virtual_node *ids, *keys; /* uthash */
    uint64_t last;
};

/* In memory that is all zeros. */
void virtual_init(struct virtual_table *virtuals, struct hub *hub);
void virtual_deinit(struct virtual_table *virtuals);

static inline bool virtual_is(uint64_t node)
{
    return (node & VIRTUAL_BIT) != 0;
}

/* ".versions" and ".kvfs": no entry may have these names. */
bool virtual_is_reserved(const char *name);

/* What the operations do for a virtual node, or a reserved name. */
void virtual_lookup(struct call *call, fuse_ino_t parent);
void virtual_forget(struct virtual_table *virtuals, fuse_ino_t node, uint64_t n);
void virtual_getattr(struct call *call, fuse_ino_t node);
void virtual_readlink(struct call *call, fuse_ino_t node);
void virtual_xattrs(struct call *call, fuse_ino_t node);
void virtual_opendir(struct call *call, fuse_ino_t node);
void virtual_open(struct call *call, fuse_ino_t node);
void virtual_read(struct call *call, fuse_ino_t node);
void virtual_release(struct virtual_table *virtuals, const struct fuse_file_info *fi);

/* For the trees: the node of a key, made if need be (then nlookup is 0 and
 * the caller fills in the rest). NULL: out of memory. */
struct virtual_node *virtual_get(struct virtual_table *virtuals, const char *key);
/* Answers LOOKUP; stable: the kernel may keep it. */
void virtual_reply_entry(struct call *call, struct virtual_node *v, bool stable);
struct virtual_node *virtual_find(struct virtual_table *virtuals, uint64_t id);

/* versions.c: DIR/.versions, call->parent is DIR. */
void versions_lookup_root(struct call *call);
/* control_files.c: /.kvfs. */
void control_files_lookup_root(struct call *call);
/* Frees what open() of a control file fetched. */
void control_files_release(const struct fuse_file_info *fi);

#endif

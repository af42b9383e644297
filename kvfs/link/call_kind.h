/* What the operations keep for as long as they are under way: each kind of call that needs
 * something has a member of the union in struct call, and looks at no other. What all have
 * (who asks, the inode or the name that it is about) is in struct call itself. */
#ifndef KVFS_KVFS_LINK_CALL_KIND_H
#define KVFS_KVFS_LINK_CALL_KIND_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"
#include "sync/wire/command.h"

struct handle;
struct lock_wish;

enum call_kind {
    CALL_PLAIN, /* nothing but what it is about: kvfs's own, GETATTR, FLUSH, UNLINK … */
    CALL_LOOKUP,
    CALL_KEY,
    CALL_VERSION,
    CALL_RENAME,
    CALL_SETATTR,
    CALL_GETXATTR,
    CALL_OPEN,
    CALL_READ,
    CALL_WRITE,
    CALL_ALLOCATE,
    CALL_COPY,
    CALL_OPENDIR,
    CALL_READDIR,
    CALL_PULL,
    CALL_LOCK,
};

/* LOOKUP of a name in a directory of the cluster. */
struct call_lookup {
    bool confirmed;  /* if it is missing now, the cluster has nothing to say about it any more */
    unsigned rounds; /* how often what a second walk found was gone again */
};

/* LOOKUP of a name below .versions. */
struct call_key {
    uint64_t newest_ns; /* when its newest version was written; 0: none was seen yet */
};

/* LOOKUP of a version of a name. */
struct call_version {
    uint64_t passed; /* contents, and a deletion at the end of all, that are newer than the next row */
};

/* RENAME of what is called `name` in `parent`. */
struct call_rename {
    uint64_t new_parent;
    char *new_name;  /* owned */
    unsigned flags;  /* RENAME_NOREPLACE, RENAME_EXCHANGE */
    unsigned looked; /* how many of the two names have been looked at for something staged */
};

struct call_setattr {
    struct command_body wanted; /* all but the size, as the cluster is asked for it */
    uint64_t size;              /* if it is to be set */
    /* ftruncate(2): the size is staged and not published at once. Borrowed, the kernel keeps it; else
     * NULL. */
    const struct handle *handle;
};

/* GETXATTR of the attribute `name`; LISTXATTR: NULL. */
struct call_getxattr {
    size_t size; /* of the kernel's buffer; 0: it wants to know the length */
};

/* OPEN, and CREATE of `name` in `parent`. */
struct call_open {
    struct fuse_file_info fi;
    struct handle *handle; /* borrowed, between the node's answer and the kernel's; NULL before */
    bool second_walk;      /* must not end in ESTALE */
    bool exclusive;        /* CREATE */
    uint16_t mode;         /* CREATE */
    unsigned rounds;       /* CREATE in a second walk: how often what was there was gone again */
    unsigned protection;   /* there: what /proc/sys/fs/protected_regular says */
    uint32_t *groups;      /* owned; there: the caller's, if he is not root */
    size_t n_groups;
};

struct call_read {
    uint64_t offset, fh;
    uint64_t answered; /* lease.answered when it was sent */
    size_t size;       /* READ_LENGTH_MAX at most */
};

/* WRITE that has to wait: for room, or until the kernel has dropped pages that it makes wrong. */
struct call_write {
    struct fuse_file_info fi;
    uint64_t offset;
    struct buffer data; /* owned; those that wait for room */
    size_t taken;       /* bytes that are staged, when it waits for the kernel */
};

struct call_allocate {
    struct fuse_file_info fi;
    uint64_t offset, end; /* what is left to do */
    bool keeps_size;      /* else the file is to be so long at least */
    bool zeroes;          /* what is there becomes zeros */
};

/* COPY_FILE_RANGE of one piece. The call's inode is that which is written to. */
struct call_copy {
    struct fuse_file_info fi; /* of that */
    uint64_t from, from_offset, offset;
    size_t size;        /* READ_LENGTH_MAX at most */
    struct buffer data; /* owned; what was read */
};

struct call_opendir {
    struct fuse_file_info fi;
    /* Below .versions: what is listed, so far (see open_directory_reply_list()), and its last version. */
    struct buffer names; /* owned */
    struct {
        bool any, deleted;
        uint64_t number;
    } last;
};

/* READDIR, READDIRPLUS. */
struct call_readdir {
    uint64_t offset; /* cookie of the last entry that the kernel has */
    size_t size;
    bool plus;
};

/* kvfs's own: fetches the value of a removed file. */
struct call_pull {
    struct buffer data; /* owned; so far */
};

/* LOCK, UNLOCK, UNWAIT, and what comes before and after them (kvfs/file/lock.h). */
struct call_lock {
    uint64_t serial;         /* of the request for which it is */
    uint64_t notices, names; /* until which of the notifier's it waits */
    struct lock_wish *wish;  /* owned; F_GETLK */
};

#endif

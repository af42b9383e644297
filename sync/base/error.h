/* Results that a caller has to handle.
 *
 * Two families, told apart by their sign. Negative: an errno of this process
 * (-ENOMEM, -EIO): the operation cannot go on here. Positive: an enum kv_error:
 * an outcome of the request, which travels over sockets and is part of the
 * replicated state, so the numbers below are fixed for ever. */
#ifndef KVFS_SYNC_BASE_ERROR_H
#define KVFS_SYNC_BASE_ERROR_H

enum kv_error {
    KV_OK = 0,
    KV_E_NOENT = 1,        /* no such key, directory or inode */
    KV_E_EXIST = 2,        /* the name exists */
    KV_E_NOTDIR = 3,       /* a component of the path is no directory */
    KV_E_ISDIR = 4,        /* a directory where a value was expected */
    KV_E_NOTEMPTY = 5,     /* the directory has entries */
    KV_E_ACCES = 6,        /* the mode bits deny it */
    KV_E_PERM = 7,         /* only the owner or root may; reserved name */
    KV_E_INVAL = 8,        /* malformed argument */
    KV_E_NAMETOOLONG = 9,  /* name over 255 bytes or path over 4,095 */
    KV_E_FBIG = 10,        /* value over the cluster's limit */
    KV_E_NOSPC = 11,       /* live data or keys over the cluster's budget, or the disk is full */
    KV_E_ROFS = 12,        /* this node knows it is in a minority; nothing was written */
    KV_E_STALE = 13,       /* the inode is gone */
    KV_E_LOOP = 14,        /* a directory would move below itself; too many symbolic links */
    KV_E_VERSION = 15,     /* the version is not the expected one; nothing was written */
    KV_E_UNAVAILABLE = 16, /* no leader within the deadline; nothing was written */
    KV_E_UNKNOWN = 17,     /* outcome unknown: it may or may not have been executed */
    KV_E_SESSION = 18, /* no such session; this request was not executed now (an earlier try may have been) */
    KV_E_NOTLEADER = 19, /* between nodes only: ask another */
    KV_E_BUSY = 20,      /* too many sessions, mounts or queued bytes; nothing was written */
    KV_E_PROTOCOL = 21,  /* malformed or unexpected frame; the connection is closed after it */
    KV_E_NOVERSION = 22, /* the key exists or existed, but not in that version */
    KV_E_NOTSUP = 23,    /* not offered by this version, or not at the cluster's feature level */
    KV_E_DUPLICATE = 24, /* a number that the session has acknowledged before */
    KV_E_PART = 25,      /* parts of a big command arrived out of order: send it again from part 0 */
    KV_E_REFUSED = 26,   /* refused by an administrative rule */
    KV_E_IO = 27,        /* this node could not read its disk */
    KV_E_LOCKED = 28,    /* somebody else holds a lock that is in the way */
    KV_E_DEADLK = 29,    /* to wait for the lock would be to wait for oneself */
    KV_E_NOLCK = 30,     /* no room for more locks, or waits for them */
    KV_E_NOATTR = 31,    /* no such extended attribute */
    KV_E_MLINK = 32,     /* the file has as many names as one may have */
    KV_E_FENCE =
        33, /* the key's lock has moved on since that fence, or the key is another; nothing was written */
    KV_E_COUNT
};

/* One English clause without a full stop, "no such key". Never NULL. */
const char *error_text(int code);

/* The errno that a file system call reports for a code (KV_E_NOENT -> ENOENT).
 * Positive. An unknown code, an unknown outcome and no quorum are EIO. */
int error_errno(int code);

#endif

/* Rows: the state as it is digested, handed to the writer and stored. One struct
 * a table of state.db, without anything that is this node's own (chunk ids,
 * pointers). The digest of the state is the sum of the digests of its rows. */
#ifndef KVFS_KVNODE_STATE_STORE_ROWS_H
#define KVFS_KVNODE_STATE_STORE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/wire/message.h"

struct inode_row {
    uint64_t ino;
    uint8_t type;
    uint16_t mode;
    uint32_t uid, gid;
    uint64_t size; /* of a directory 0: derived from its entries */
    int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
    uint64_t version, revision, content_revision;
    uint64_t history;        /* directories: history id of their entries */
    bool fresh;              /* created and not yet published */
    uint64_t creation;       /* fresh: sum of the digests of the rows since its creation */
    uint64_t content_digest; /* value_digest() */
    uint32_t xattr_size;     /* bytes of its extended attributes (xattr.h); 0: none */
    uint64_t xattr_digest;   /* xattrs_digest() */
    uint64_t ttl_ms;         /* sync/wire/ttl.h; 0: none */
    uint64_t expires_ms;     /* elapsed clock: of a file that has one; else 0 */
};

enum {
    ENTRY_DEAD = 1,       /* no inode; kept for its history */
    ENTRY_NO_HISTORY = 2, /* changes leave no rows */
    ENTRY_HAS_ROWS = 4,
    ENTRY_ASIDE = 8, /* dead: moved to a name without history; see store_history.c */
    ENTRY_PAST = 16, /* dead: was a directory, whose history id a new one inherits */
    ENTRY_FLAGS = 31
};

struct entry_row {
    uint64_t directory;  /* history id */
    const uint8_t *name; /* borrowed */
    uint8_t name_len;
    uint8_t flags;
    uint64_t number;             /* readdir cookie; of a dead one the order of deaths */
    uint64_t ino;                /* 0: dead */
    uint64_t past;               /* ENTRY_PAST: history id */
    uint32_t past_uid, past_gid; /* of that directory when it went */
    uint16_t past_mode;
    uint64_t last_version;
    uint64_t history_digest;                         /* sum of the digests of its version rows */
    uint64_t aside_revision, aside_ms, aside_digest; /* ENTRY_ASIDE: the tombstone, and when */
};

/* A row of history: version_row and what is not shown of it. */
struct history_row {
    uint64_t directory;  /* history id */
    const uint8_t *name; /* borrowed */
    uint8_t name_len;
    struct version_row row; /* `current` is not stored */
    uint64_t ino;
    uint64_t child; /* directories: history id */
    int64_t mtime_ns;
    uint64_t content_digest;
    uint32_t xattr_size; /* as in inode_row */
    uint64_t xattr_digest;
    uint64_t restored;                     /* SET_RESTORE: from this version */
    uint64_t from_directory, to_directory; /* RENAME; 0: none */
    const uint8_t *from_name, *to_name;    /* borrowed */
    uint8_t from_len, to_len;
};

struct session_row {
    uint64_t id;
    uint8_t nonce[16];
    const uint8_t *client; /* borrowed */
    uint8_t client_len;
    uint32_t owner;   /* uid; 0: root, and whom nodes trust as root */
    uint64_t seen_ms; /* elapsed clock */
    uint64_t acked_below;
    uint32_t lease_ms; /* of its locks; 0: the usual one */
};

/* Of a file whose lock was asked for with LOCK_FLAG_FENCE (command.h). */
struct fence_row {
    uint64_t ino;
    uint64_t revision; /* where it is */
    uint64_t wall_ns;  /* when it came there */
    bool exclusive;    /* by such a lock */
};

struct meta_row {
    uint64_t wall_ns, elapsed_ms;
    uint64_t next_ino, next_number;
};

uint64_t inode_row_digest(const struct inode_row *r);
uint64_t entry_row_digest(const struct entry_row *r);
uint64_t history_row_digest(const struct history_row *r);
uint64_t session_row_digest(const struct session_row *r);
uint64_t result_row_digest(uint64_t session, uint64_t seq, const struct command_result *result);
uint64_t part_row_digest(uint64_t session, uint64_t seq, uint32_t number, const void *bytes, size_t len);
uint64_t setting_row_digest(const char *name, const char *value);
uint64_t lock_row_digest(const struct lock_row *r);
uint64_t fence_row_digest(const struct fence_row *r);
uint64_t meta_row_digest(const struct meta_row *r);

/* For the way to the writer. A decoded row borrows from the cursor's bytes. */
void inode_row_encode(struct buffer *b, const struct inode_row *r);
void inode_row_decode(struct cursor *c, struct inode_row *r_out);
void entry_row_encode(struct buffer *b, const struct entry_row *r);
void entry_row_decode(struct cursor *c, struct entry_row *r_out);
void history_row_encode(struct buffer *b, const struct history_row *r);
void history_row_decode(struct cursor *c, struct history_row *r_out);
void session_row_encode(struct buffer *b, const struct session_row *r);
void session_row_decode(struct cursor *c, struct session_row *r_out);

#endif

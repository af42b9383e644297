/* Replicated commands: what a client asks to be written, and what stands in the
 * Raft log. One encoding serves the client's request, the forwarded request, the
 * log entry and the replay.
 *
 *   client ──encodes──► node ──stamps author──► leader ──stamps clocks──► log ──► every node applies
 *
 * Bytes (RFC 4251 types):
 *   u8  format        COMMAND_FORMAT
 *   u8  op            enum command_op
 *   u16 flags         COMMAND_TRUSTED…
 *   u64 session       0: the node lends its own
 *   u64 seq           number of the request within the session, from 1
 *   u64 acked_below   the client has the answers to all numbers below this one
 *   u64 wall_ns       stamped by the leader, at COMMAND_WALL_AT
 *   u64 elapsed_ms    stamped by the leader, at COMMAND_ELAPSED_AT
 *   u32 uid, u32 gid  the caller, stamped by the node that took the request
 *   u32 n_groups, n_groups × u32
 *   string node       name of that node (author = uid@node)
 *   string label      with COMMAND_LABEL: what the author calls himself (command_label_check())
 *   body              up to the end; by op, see below
 *
 * Decoding checks every length and every enum; names and paths are checked for
 * form (attr.h). A decoded command borrows from the bytes. */
#ifndef KVFS_SYNC_WIRE_COMMAND_H
#define KVFS_SYNC_WIRE_COMMAND_H

#include "sync/wire/attr.h"

#define COMMAND_FORMAT 1
#define COMMAND_OP_AT 1
#define COMMAND_WALL_AT 28
#define COMMAND_ELAPSED_AT 36
#define COMMAND_GROUPS_MAX 1024
#define COMMAND_NODE_MAX 32
#define COMMAND_LABEL_MAX 64
#define COMMAND_LABEL_LEVEL 3          /* of feature.h */
#define COMMAND_PART_SIZE (256 * 1024) /* a longer body travels as several parts */
/* The caller of a trusted REGISTER of a node for itself; no user has it. */
#define COMMAND_UID_NODE UINT32_MAX

/* COMMAND_CLOCK is refused (KV_E_REFUSED) unless the stored time is ahead by more than the first,
 * and the clocks differ from what was asked for by no more than the second. */
#define CLOCK_BACK_MIN_NS UINT64_C(1000000000)
#define CLOCK_BACK_SLACK_NS UINT64_C(60000000000)

enum command_op {
    COMMAND_REGISTER = 1,  /* nonce 16 bytes, string client: a new session; its id is the result */
    COMMAND_KEEPALIVE = 2, /* nothing: keeps the session */
    COMMAND_END = 3,       /* nothing: ends the session */
    COMMAND_PART = 4,     /* u32 number from 0, string bytes: a piece of the body of command (session, seq) */
    COMMAND_CREATE = 5,   /* u64 parent, string name, u16 mode, u8 exclusive */
    COMMAND_MKDIR = 6,    /* u64 parent, string name, u16 mode */
    COMMAND_SYMLINK = 7,  /* u64 parent, string name, string target */
    COMMAND_UNLINK = 8,   /* u64 parent, string name */
    COMMAND_RMDIR = 9,    /* u64 parent, string name */
    COMMAND_RENAME = 10,  /* u64 parent, string name, u64 new_parent, string new_name, u8 MOVE_* */
    COMMAND_SETATTR = 11, /* u64 ino, u8 valid, u16 mode, u32 uid, u32 gid, i64 mtime_ns; with
                             SETATTR_ATIME: i64 atime_ns */
    COMMAND_PUBLISH = 12, /* u64 ino, u8 PUBLISH_*, u64 expect (0: nothing), edits */
    COMMAND_SET = 13,     /* string path, u8 flags, u64 if_version, u64 from_version, u16 mode, bytes value;
                             with SET_TTL u64 ttl_ms before the value, and with SET_FENCE u64 fence */
    COMMAND_DEL = 14, /* string path, u8 recursive: KV_E_BUSY, as if not sent, with more than STORE_DEL_MAX
                         names below; the node that takes it sees to that (COMMAND_PRUNE) */
    COMMAND_SETTING = 15, /* string name, string value */
    COMMAND_TICK = 16,    /* nothing: carries the clocks */
    COMMAND_CLOCK = 17,   /* u64 wall_ns: root sets the stored time back to the clocks, about this */
    COMMAND_PRUNE = 18,   /* u64 session, u64 seq, string path: the first STORE_DEL_MAX names below path go,
                             children first; for a recursive DEL under (session, seq), KV_E_STALE if that
                             number was executed (session 0: not asked) */
    COMMAND_MKNOD = 19,   /* u64 parent, string name, u16 mode, u8 type: INODE_FIFO or INODE_SOCKET */
    COMMAND_LOCK =
        20, /* u64 ino, u8 LOCK_OF_*, u8 LOCK_*, u64 owner, u64 start, u64 end, u64 ticket, u32 pid:
               the result's `created` says whether it has the lock or waits for it, see LOCK_WAIT. With
               LOCK_FLAG_FENCE u32 lease_ms; the result's base_revision is the fence then */
    COMMAND_UNLOCK = 21,      /* u64 ino, u8 LOCK_OF_*, u64 owner, u64 start, u64 end */
    COMMAND_UNWAIT = 22,      /* u64 ino, u64 ticket: waits no longer; KV_E_NOENT: it does not wait */
    COMMAND_SETXATTR = 23,    /* u64 ino, string name, u8 XATTR_*, string value; XATTR_TTL: see ttl.h */
    COMMAND_REMOVEXATTR = 24, /* u64 ino, string name */
    COMMAND_LINK = 25,   /* u64 ino, u64 parent, string name: one more name of a file or symbolic link, of
                            which it may have INODE_NAMES_MAX (KV_E_MLINK). Level 2 */
    COMMAND_EXPIRE = 26, /* u64 ino, u64 revision, at most COMMAND_EXPIRE_MAX times: those of these files
                            whose time is over, and that are of that revision still, lose their names; from
                            nodes only. Level 2 */
    COMMAND_TXN = 27, /* items of txn.h. The result: `created` is 1 if all comparisons held; `removed` is the
                         number of the item, from 1 on and ELSE counted, that did not hold or that refused it,
                         or 0; KV_E_VERSION: one did not hold and there is no ELSE. Level 2 */
    COMMAND_LOCK_TAKE = 28, /* as COMMAND_LOCK, with a ticket always, and flags of its own: LOCK_FLAG_TAKE,
                               LOCK_FLAG_ASK. While another session has the table it waits under its ticket
                               in any case. base_revision of the result: the session has the whole table from
                               here on, as of that epoch, or 0. Level 3 */
    COMMAND_LOCK_PUT = 29,  /* u64 ino, u64 epoch, at most LOCK_PUT_MAX times lock_put: the session gives back
                               the table that it has, and this is locked in it; KV_E_STALE: it has it not, or
                               of  another epoch. Level 3 */
#ifdef KVFS_NEXT_LEVEL
    COMMAND_NEXT = 30, /* as COMMAND_SETTING; of a level that only tests have, see feature.h */
#endif
    COMMAND_OP_COUNT
};

enum {
    COMMAND_TRUSTED = 1 << 0, /* the kernel or root has checked the permissions: do not check them again */
    COMMAND_PARTS = 1 << 1, /* u32 number of parts, then the last piece; the parts stored under (session, seq)
                               come before that piece, and KV_E_PART if they are not so many */
    COMMAND_OPENED = 1 << 2, /* SETATTR, SETXATTR, REMOVEXATTR: the node's client has the inode open; it need
                                not be reachable. PUBLISH in parts: u64 ino behind the number of parts; the
                                client has that one open for writing, and permission was asked for then */
    COMMAND_TTL = 1 << 3,    /* SET: its body has SET_TTL. Level 2 */
    COMMAND_FENCE = 1 << 4,  /* its body has SET_FENCE, LOCK_FLAG_FENCE or TXN_IF_FENCE. Level 3 */
    COMMAND_LABEL = 1 << 5,  /* a label follows the node's name. Level 3 */
    COMMAND_FLAGS = 63
};

/* A lock of flock(2) that was asked for with LOCK_FLAG_FENCE makes a fence of its file: a revision that moves
 * to that of each grant, with the flag or not, after which nobody who held the lock before may go on: every
 * exclusive one, and a shared one behind an exclusive one. Who has a number that is not below it may write:
 * SET_FENCE, TXN_IF_FENCE. It goes with the file. And the session's locks are taken when nothing
 * was heard of it for lease_ms, in the place of the usual time, from then on. */
#define LOCK_LEASE_MIN_MS 1000
#define LOCK_LEASE_MAX_MS 3600000

#define COMMAND_EXPIRE_MAX 1000
#define COMMAND_EXPIRE_SIZE 16 /* bytes of one */

enum {
    MOVE_NOREPLACE = 1, /* KV_E_EXIST if the new name is taken */
    MOVE_EXCHANGE = 2,  /* both names stay, and each gets what the other had; KV_E_NOENT if one is missing */
    MOVE_FLAGS = 3
};

enum {
    SETATTR_MODE = 1,
    SETATTR_UID = 2,
    SETATTR_GID = 4,
    SETATTR_MTIME = 8,
    SETATTR_MTIME_NOW = 16,
    SETATTR_ATIME = 32,
    SETATTR_ATIME_NOW = 64,
    SETATTR_VALID = 127
};

enum {
    XATTR_ADD = 1,    /* XATTR_CREATE: KV_E_EXIST if there is one of that name */
    XATTR_CHANGE = 2, /* XATTR_REPLACE: KV_E_NOATTR if there is none */
    XATTR_FLAGS = 3
};

enum {
    PUBLISH_REPLACE_CREATION = 1, /* the file was created by who publishes: one version, not two */
    /* expect is the content_revision of what the edits were made on, not a version:
     * KV_E_VERSION if the content is another now. A file that was renamed keeps it. */
    PUBLISH_IF_REVISION = 2,
    PUBLISH_FLAGS = 3
};

enum {
    SET_PARENTS = 1,    /* make missing parent directories, mode 0755 */
    SET_MUST_EXIST = 2, /* KV_E_NOENT if the key is missing */
    SET_IF_VERSION = 4, /* KV_E_VERSION unless the current version is if_version (0: must not exist) */
    SET_RESTORE = 8,    /* content of from_version: the operation log says `restore` */
    SET_TTL = 16,       /* u64 ttl_ms stands before the value, of ttl.h; the command has COMMAND_TTL */
    SET_FENCE = 32,     /* u64 fence stands before the value: KV_E_FENCE if the key's is above it, or it has
                           none; the command has COMMAND_FENCE */
    SET_FLAGS = 63
};

/* Two tables for each file, which know nothing of each other: of flock(2), and of byte ranges, fcntl(2). */
enum { LOCK_OF_FLOCK = 0, LOCK_OF_RANGE = 1, LOCK_KINDS = 2 };

enum {
    LOCK_FLAG_EXCLUSIVE = 1, /* else shared */
    /* If it cannot be had at once, it waits, under the ticket, which no other wait of the session has: then
     * the result's `created` is 0, and an event tells of its end (EVENT_NOTHING, message.h). The same ticket
     * again: it goes on waiting, at its place. Without this flag: KV_E_LOCKED. A ticket is
     * not 0 (KV_E_INVAL). */
    LOCK_FLAG_WAIT = 2,
    LOCK_FLAG_FENCE = 4, /* of flock(2) only: see COMMAND_FENCE, which the command has */
    LOCK_FLAGS = 7,
    /* Of LOCK_TAKE only. If nothing is locked in the file and nobody waits, and it has no fence, the session
     * gets the whole table: what is locked in it, this one to begin with, is its own to know until it gives
     * it back (LOCK_PUT). An event tells it that somebody wants it (EVENT_NOTHING, message.h). */
    LOCK_FLAG_TAKE = 8,
    /* Takes nothing: it is done when no other session has the table. */
    LOCK_FLAG_ASK = 16,
    LOCK_TAKE_FLAGS = 27
};

/* A lock of a table that is given back: u8 LOCK_OF_*, u8 exclusive, u64 owner, u64 start, u64 end, u32 pid.
 * No two are in each other's way, and those of one owner do not overlap (KV_E_INVAL). */
#define LOCK_PUT_MAX 64
#define LOCK_PUT_SIZE 30
struct lock_put {
    uint8_t kind, exclusive;
    uint64_t owner, start, end;
    uint32_t pid;
};

/* Edits of a publication, applied in order to the then-current value. */
enum edit_kind {
    EDIT_TRUNCATE = 1, /* u64 size: cut or extend with zeros */
    EDIT_WRITE = 2,    /* u64 offset, string data */
    EDIT_APPEND = 3,   /* string data, at the end as of then */
    EDIT_MTIME = 4,    /* i64 mtime_ns: an explicit time wins over the publication's */
    EDIT_ATIME = 5,    /* i64 atime_ns */
    EDIT_STAMP = 6,    /* i64 ns: when the last change was made, by the cluster's clock */
};

struct edit {
    uint8_t kind;
    uint64_t number;     /* size, offset or a time, signed */
    const uint8_t *data; /* borrowed */
    size_t len;
};

struct command {
    uint8_t op;
    uint16_t flags;
    uint64_t session, seq, acked_below;
    uint64_t wall_ns, elapsed_ms;
    uint32_t uid, gid;
    uint32_t n_groups;
    const uint8_t *groups; /* n_groups × u32, network byte order */
    const char *node;      /* not terminated */
    size_t node_len;
    const char *label; /* not terminated; with COMMAND_LABEL */
    size_t label_len;
    const uint8_t *body; /* undecoded; with COMMAND_PARTS only its last piece */
    size_t body_len;
};

/* A decoded body: the fields of its op, the others zero. */
struct command_body {
    uint64_t parent, new_parent, ino;
    uint64_t session, seq;
    const uint8_t *name, *new_name, *target, *path, *value, *nonce;
    size_t name_len, new_name_len, target_len, path_len, value_len;
    uint32_t part;
    uint16_t mode;
    uint8_t type;         /* enum inode_type */
    uint8_t valid, flags; /* flags: exclusive, MOVE_*, recursive, PUBLISH_*, SET_*, LOCK_*, XATTR_* */
    uint32_t uid, gid;
    int64_t mtime_ns, atime_ns;
    uint64_t wall_ns;
    uint64_t version; /* if_version, expect; LOCK_PUT: epoch */
    uint64_t from_version;
    uint64_t ttl_ms, fence;
    uint64_t owner, start, end, ticket; /* locks; both start and end are in the range */
    uint32_t pid, lease_ms;
    uint8_t kind;         /* LOCK_OF_* */
    const uint8_t *edits; /* walk with edit_next() */
    size_t edits_len;
    const uint8_t *items; /* of a TXN: txn_next() */
    size_t items_len;
    const uint8_t *put; /* of a LOCK_PUT: n_put × LOCK_PUT_SIZE bytes; command_put() */
    size_t n_put;
    const uint8_t *expired; /* n_expired × COMMAND_EXPIRE_SIZE bytes: command_expired() */
    size_t n_expired;
};

/* Header + body as given (body may be NULL when body_len is 0; the caller may
 * put the body after it). */
void command_encode(struct buffer *b, const struct command *cmd);
/* How many bytes that are; and the same into memory that has so many. */
size_t command_size(const struct command *cmd);
void command_write(uint8_t *bytes, const struct command *cmd);
/* Whether this can be a label: 1 to COMMAND_LABEL_MAX bytes of UTF-8, of characters that can be seen and
 * are no space and no @. It stands beside uid@node and never in its place: anyone may call himself anything.
 */
bool command_label_check(const char *label, size_t len);
/* 0 or KV_E_PROTOCOL; KV_E_NOTSUP: an operation or a flag that this program does not know.
 * Checks the header only. */
int command_decode(const void *bytes, size_t len, struct command *cmd_out);
/* Of a PUBLISH, SETATTR, SETXATTR or REMOVEXATTR that is not in parts: the inode, with which their bodies
 * begin, or 0. */
uint64_t command_ino(const struct command *cmd);
/* Of a command with COMMAND_PARTS: the number of its parts, the inode that it says it has open
 * (0 if it does not) and its last piece. False: malformed. */
bool command_last_piece(const struct command *cmd, uint32_t *n_parts_out, uint64_t *ino_out,
                        struct cursor *piece_out);
/* The body of such a command. ino: 0, or of a PUBLISH with COMMAND_OPENED. */
void command_last_piece_encode(struct buffer *b, uint32_t n_parts, uint64_t ino, const void *piece,
                               size_t len);
/* Decodes a body of `op` (whole: parts joined). 0, KV_E_PROTOCOL, or what
 * name_check() says of a name in it. An edits list is checked by who walks it. */
int command_body_decode(uint8_t op, const void *body, size_t len, struct command_body *body_out);
/* Encodes the body of `op` from its fields. */
void command_body_encode(struct buffer *b, uint8_t op, const struct command_body *body);
/* Flags that the header of a command with this body has to have. */
uint16_t command_body_flags(uint8_t op, const struct command_body *body);
/* Number i of an EXPIRE. */
void command_expired(const struct command_body *body, size_t i, uint64_t *ino_out, uint64_t *revision_out);
/* Number i of a LOCK_PUT, and how one is made. */
void command_put(const struct command_body *body, size_t i, struct lock_put *put_out);
void lock_put_encode(struct buffer *b, const struct lock_put *put);
void command_set_clocks(uint8_t *bytes, uint64_t wall_ns, uint64_t elapsed_ms);
/* Author and caller as of a decoded header; group i of n_groups. */
uint32_t command_group(const struct command *cmd, uint32_t i);

void edit_encode(struct buffer *b, const struct edit *e);
/* 1: an edit, 0: the end, -EPROTO: malformed. */
int edit_next(struct cursor *c, struct edit *e_out);

/* What applying a command gives, the same on every node. Kept in the session
 * (without the value) until the client has acknowledged its number. */
struct command_result {
    uint16_t code;     /* enum kv_error */
    uint8_t created;   /* CREATE: the file was made by this command; SET: the key is new; LOCK: it has it */
    uint64_t revision; /* log index of the command that was executed */
    uint64_t base_version;  /* version before it (PUBLISH, SET) */
    uint64_t base_revision; /* content_revision before it (PUBLISH, SET); LOCK, and KV_E_FENCE: the fence;
                             * LOCK_TAKE: the epoch, or 0 */
    uint64_t session;       /* REGISTER: the session's id */
    uint64_t removed; /* inode that lost its last name (RENAME over, UNLINK, RMDIR), or 0; DEL: number of
                       * keys, with another code than KV_OK of those that were removed before */
    struct attr attr; /* of the inode concerned; ino 0: none */
};

extern const struct layout command_result_layout;
/* The attributes come last, in the form of the protocol (attr.h); decoded is the newest. */
void command_result_encode(struct buffer *b, const struct command_result *r, uint16_t protocol);
void command_result_decode(struct cursor *c, struct command_result *r_out);

#endif

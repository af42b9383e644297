/* Requests of clients (kvfs, kvnode's command line) to a node, and the answers.
 *
 * An answer has the request's id and type MESSAGE_ANSWER; its payload is
 *   u16 code (enum kv_error); if 0 the answer's body, else: string detail (may be empty).
 * Requests of one connection may be answered in any order, but an answer to a
 * write is preceded by the events of that write and of all before it.
 *
 * "at" is the consistency of a read, one byte: READ_LOCAL: this node's memory,
 * including all writes answered on this connection; READ_LINEARIZABLE: as of
 * some moment after the request was sent (ReadIndex, Raft thesis §6.4).
 */
/* clang-format off */
/* Bodies, request → answer (RFC 4251 types; parentheses explain). body.c encodes and decodes them, and a test
 * compares it with this.
 *
 * HELLO     string magic ("kvfs"), u8 kind (enum client_kind), string name, u64 after (revision that must be
 *           applied first; 0: none), optionally u16 protocol (left out: 1)
 *           → string name (of the node), u64 cluster_id, u64 applied (revision), u32 part_size, u64 value_limit,
 *             u8 trusted, u16 protocol (that the node will use), optionally u16 level (the cluster's feature level;
 *             0 from older nodes)
 * WRITE     u8 has_owner, u32 uid, u32 gid, command (command.h, up to the end; uid, gid, groups, node, clocks are
 *           overwritten by the node; has_owner only from a trusted peer)
 *           → command_result (also for codes other than 0: an answered command carries its code inside; the
 *             outer code tells of refusals before the log)
 * BARRIER   → u64 revision (that is applied; linearizable)
 * LOOKUP    at, u64 parent, string name → attr
 * GETATTR   at, u64 ino → attr
 * READLINK  at, u64 ino → string target
 * READ      at, u64 ino, u64 offset, u32 length → attr, string data (short at the end of the value)
 * READDIR   at, u64 ino, u64 cookie (0: from the start), u32 n (entries at most)
 *           → u8 eof, u32 count, count × (u64 cookie, string name, attr)
 * OPEN      at, u64 ino, u8 access (1 read | 2 write), optionally u32 uid (in whose name: from a trusted peer)
 *           → attr (the value stays readable on this connection after its last name has gone, until CLOSE)
 * CLOSE     u64 ino →
 * STATFS    → u64 keys, u64 bytes, u64 max_keys, u64 max_bytes
 * RESOLVE   at, string path → attr, u64 parent, string name (the last of the path)
 * GET       at, string path, u64 offset, u32 length, u64 content_revision (0: any; else KV_E_STALE if another)
 *           → attr, string data
 * HISTORY   u64 directory, string name, u64 before (revision; 0: newest), u32 n
 *           → u8 more, u32 count, count × version_row (newest first), optionally string labels (of the rows, each
 *             with a NUL behind it; left out: none has one, or the node is older)
 * VERSION   u64 directory, string name, u64 version, u64 offset, u32 length
 *           → version_row, string data, u16 mode, u32 uid, u32 gid (what a reader needs: see PROTOCOL.md)
 * NAMES     u64 directory, string after, u32 n
 *           → u8 more, u32 count, count × (string name, u64 version, u8 deleted) (names with history and their
 *             last version, in byte order)
 * LOG       u64 after (revision), u32 n, optionally string cursor (empty, or from an answer; then `after` does not
 *           count)
 *           → u8 more, u32 count, count × log_row (oldest first), string cursor, optionally u64 gap_after,
 *             optionally u64 gap_until (of the rows behind the place asked from, some of revisions above the
 *             first, up to the second, are no longer kept; 0, 0: all are. Not from older nodes), optionally string
 *             labels (as of HISTORY)
 * SUBSCRIBE u64 after (revision), optionally u8 sparse (1: after an EVENT there is no other before the next LOG
 *           of this connection; older nodes do not know it)
 *           → u64 revision (from which events follow; larger than asked + 1: a gap; drop all caches. Then EVENT
 *             frames with the request's id, for as long as the connection lives)
 * STATUS    → string json
 * SETTINGS  → string json
 * ADMIN     string json ({"command": …}) → string json
 * GETXATTR  at, u64 ino, string name → string value (of an extended attribute; KV_E_NOATTR: there is none)
 * LISTXATTR at, u64 ino → string names (each with a NUL behind it)
 * VERSION_XATTRS  u64 directory, string name, u64 version
 *           → string xattrs (xattr.h; those that the version had at last)
 * LOCKS     at, u64 ino, u8 all (0: of this file alone; else of the files from that number on)
 *           → u8 more, u32 count, count × lock_row (files in the order of their numbers, each with all that is
 *             locked in it, and then those who wait, in their order)
 * RESERVE   u64 held, u64 least, u64 wanted
 *           → u64 granted (room for what the client will publish, kvnode/group/reserve.h; granted < least: there
 *             is none. It ends with the connection)
 * LEASED    → (the client caches answers: from here on INVAL and BEAT frames come, with the request's id, for as
 *             long as the connection lives)
 * INVALIDATED u64 number → (what that INVAL and those before it name is forgotten)
 * HELD      at, u64 ino, u64 session
 *           → u64 fence, u64 since_ns, u8 exclusive (where the file's fence is, since when, by such a lock; 0, 0: it has
 *             none), string client (who that session is), string path (of the file; empty: it has no name)
 *
 * An EVENT is an event, an INVAL an inval, a BEAT a beat, see below. What the words above stand for:
 *
 * at             u8 (enum read_at)
 * attr           u64 ino, u8 type, u16 mode, u32 uid, u32 gid, u32 nlink, u64 size, u64 mtime_ns, u64 ctime_ns,
 *                u64 version, u64 revision, u64 content_revision, u64 atime_ns, u64 btime_ns (attr.h; the last
 *                two not in protocol 1. Times are signed)
 * command_result u16 code, u8 created, u64 revision, u64 base_version, u64 base_revision, u64 session, u64 removed,
 *                attr (command.h)
 * version_row    u64 version, u64 revision, u64 wall_ns, u64 size, u16 mode, u32 uid, u32 gid, u8 type, u8 deleted,
 *                u8 current, u8 attributes_only, u8 op, u64 restored, u32 author_uid, string author_node
 * log_row        version_row, string key, string from
 * lock_row       u64 ino, u8 kind, u64 session, u64 owner, u64 start, u64 end, u8 exclusive, u64 wait, u64 ticket,
 *                u32 pid, string node
 * event          u64 revision, u64 wall_ns, u64 session, u64 seq, u8 kind, u8 op, u8 last, u64 ino, u64 parent,
 *                u64 new_parent, u64 base_revision, string name, string new_name, attr
 * inval          u64 number, u64 index, u64 session, u8 all, u8 n, n × (u64 ino, u8 what)
 * beat           u64 until_ms, u64 applied, u8 in_force
 */
/* clang-format on */
#ifndef KVFS_SYNC_WIRE_MESSAGE_H
#define KVFS_SYNC_WIRE_MESSAGE_H

#include "sync/wire/command.h"
#include "sync/wire/frame.h"

#define MESSAGE_MAGIC "kvfs"
/* 2: attributes in answers and events carry atime and btime (attr.h). A node goes on
 * serving clients of protocol 1. */
#define MESSAGE_PROTOCOL 2
#define READ_LENGTH_MAX (1024 * 1024)

enum message_type {
    MESSAGE_HELLO = 1,
    MESSAGE_WRITE = 2,
    MESSAGE_BARRIER = 3,
    MESSAGE_LOOKUP = 4,
    MESSAGE_GETATTR = 5,
    MESSAGE_READLINK = 6,
    MESSAGE_READ = 7,
    MESSAGE_READDIR = 8,
    MESSAGE_OPEN = 9,
    MESSAGE_CLOSE = 10,
    MESSAGE_STATFS = 11,
    MESSAGE_RESOLVE = 12,
    MESSAGE_GET = 13,
    MESSAGE_HISTORY = 14,
    MESSAGE_VERSION = 15,
    MESSAGE_NAMES = 16,
    MESSAGE_LOG = 17,
    MESSAGE_SUBSCRIBE = 18,
    MESSAGE_STATUS = 19,
    MESSAGE_SETTINGS = 20,
    MESSAGE_ADMIN = 21,
    MESSAGE_RESERVE = 22,
    MESSAGE_GETXATTR = 23,
    MESSAGE_LISTXATTR = 24,
    MESSAGE_VERSION_XATTRS = 25,
    MESSAGE_LOCKS = 26,
    MESSAGE_LEASED = 27,
    MESSAGE_INVALIDATED = 28,
    MESSAGE_HELD = 29,
    MESSAGE_REQUEST_COUNT,
    MESSAGE_ANSWER = 64,
    MESSAGE_EVENT = 65,
    MESSAGE_INVAL = 66,
    MESSAGE_BEAT = 67,
};

enum client_kind { CLIENT_ADMIN = 1, CLIENT_MOUNT = 2 };
enum read_at { READ_LOCAL = 0, READ_LINEARIZABLE = 1 };
/* In the number of rows of HISTORY, NAMES and LOG: what this node has, however far behind
 * it is. Without it the answer is linearizable. */
#define PAST_LOCAL (UINT32_C(1) << 31)
enum { OPEN_READ = 1, OPEN_WRITE = 2 };

/* One change of one name or inode. A command gives one or several, all with its
 * revision; the last one has `last` set. */
enum event_kind {
    EVENT_CREATE = 1, /* a name appeared: ino, parent, name; attr.nlink above 1: of what was there (LINK) */
    EVENT_REMOVE = 2, /* a name went: ino, parent, name; attr.nlink 0 if it was the last */
    EVENT_RENAME =
        3, /* parent/name became new_parent/new_name; an inode replaced there has its own REMOVE before it */
    EVENT_CONTENT = 4, /* content: ino, parent, name (one of its names); attr is new */
    EVENT_ATTR = 5,    /* mode, owner, times: ino; attr is new */
    /* A command without visible effect: only moves the revision. Of a setting that was changed:
     * attr.size is the value limit from then on (0 from older nodes, and if it was refused).
     * With a parent: a wait for a lock of ino has ended; parent: the session that waited, new_parent: its
     * ticket (COMMAND_LOCK), base_revision: 0 if it has the lock now, or an enum kv_error.
     * With a parent and no ticket: somebody wants the lock table of ino that this session has, of the epoch
     * base_revision (COMMAND_LOCK_TAKE); it is to give it back (COMMAND_LOCK_PUT). */
    EVENT_NOTHING = 6,
};

struct event {
    uint64_t revision;
    uint64_t wall_ns;
    uint64_t session, seq; /* who did it: a mount recognises its own */
    uint8_t kind;
    uint8_t op; /* enum command_op */
    uint8_t last;
    uint64_t ino, parent, new_parent;
    uint64_t base_revision;         /* CONTENT: content_revision before */
    const uint8_t *name, *new_name; /* borrowed */
    size_t name_len, new_name_len;
    struct attr attr;
};

extern const struct layout event_layout;
/* The attributes come last, in the form of the protocol. */
void event_encode(struct buffer *b, const struct event *e, uint16_t protocol);
/* The form of MESSAGE_PROTOCOL. 0 or KV_E_PROTOCOL; names borrow from the cursor's bytes. */
int event_decode(struct cursor *c, struct event *e_out);

/* To a client that caches (LEASED), before any answer that is right only with the command: it is in the log
 * at index, and may change these when it is applied. They are to be forgotten, and no answer about them kept
 * before index is applied; the node hears of it by INVALIDATED. */
#define INVAL_MAX 8
enum inval_what {
    INVAL_ATTR = 1,  /* what stat(2) says of it */
    INVAL_DATA = 2,  /* its content */
    INVAL_NAMES = 4, /* which names are in it, and what they stand for */
};
struct inval {
    uint64_t number; /* counts from 1 on a connection */
    uint64_t index, session;
    uint8_t all; /* everything: then n is 0 */
    uint8_t n;
    struct {
        uint64_t ino;
        uint8_t what; /* enum inval_what */
    } of[INVAL_MAX];
};
void inval_encode(struct buffer *b, const struct inval *i);
/* 0 or KV_E_PROTOCOL. What follows is ignored. */
int inval_decode(struct cursor *c, struct inval *out);

/* To the same: what it caches is right until then, and what is applied here. */
struct beat {
    uint64_t until_ms; /* CLOCK_BOOTTIME of this machine, ms; 0, or past: nothing may be cached */
    uint64_t applied;
    uint8_t in_force; /* 0: the cluster knows no read leases yet (feature level 1) */
};
void beat_encode(struct buffer *b, const struct beat *beat);
int beat_decode(struct cursor *c, struct beat *out);

/* A row of a key's history. */
struct version_row {
    uint64_t version; /* content number; for a deletion the number that it ended */
    uint64_t revision;
    uint64_t wall_ns;
    uint64_t size;
    uint16_t mode;
    uint32_t uid, gid;
    uint8_t type;    /* enum inode_type */
    uint8_t deleted; /* a tombstone */
    uint8_t current;
    uint8_t attributes_only; /* a change of attributes: version is the content's */
    uint8_t op;              /* enum command_op */
    uint64_t restored;       /* the version whose content a `restore` brought back, or 0 */
    uint32_t author_uid;
    char author_node[COMMAND_NODE_MAX + 1];
    /* What the author calls himself, or "". It does not travel with the row, see labels_next(). */
    char label[COMMAND_LABEL_MAX + 1];
};

extern const struct layout version_row_layout;
void version_row_encode(struct buffer *b, const struct version_row *r);
void version_row_decode(struct cursor *c, struct version_row *r_out);

/* The labels of a page of rows: one of each, in their order, with a NUL behind it. Of pages that have none
 * there is no such list. labels_next() fills row->label, "" at the end of the list; the cursor stays good. */
void labels_put(struct buffer *labels, const struct version_row *row);
void labels_next(struct cursor *labels, struct version_row *row);

/* A row of the operation log. */
struct log_row {
    struct version_row row;
    const uint8_t *key; /* path as of now, no leading slash; borrowed */
    size_t key_len;
    const uint8_t *from; /* RENAME: where it came from, LINK: a name that it had; or empty; borrowed */
    size_t from_len;
};

extern const struct layout log_row_layout;
void log_row_encode(struct buffer *b, const struct log_row *r);
void log_row_decode(struct cursor *c, struct log_row *r_out);

/* In lock_row.kind: the session has the whole table, what is locked in it is not known here; ticket is the
 * epoch. */
#define LOCK_DELEGATED 2
/* In lock_row.exclusive, of waits: it waits until it is known what is in the way, and then has it or not; it
 * takes nothing, and waits only for that. */
enum { LOCK_ROW_EXCLUSIVE = 1, LOCK_ROW_TRIES = 2, LOCK_ROW_ASKS = 4, LOCK_ROW_MODES = 7 };

/* A range that is locked, or a wait for one. */
struct lock_row {
    uint64_t ino;
    uint8_t kind; /* LOCK_OF_*, or LOCK_DELEGATED */
    uint64_t session, owner;
    uint64_t start, end;
    uint8_t exclusive;   /* LOCK_ROW_* */
    uint64_t wait;       /* 0: locked; else the command that began the wait, and with it its place */
    uint64_t ticket;     /* of a wait */
    uint32_t pid;        /* who locked first as this owner, and by which node */
    const uint8_t *node; /* borrowed */
    size_t node_len;
};

extern const struct layout lock_row_layout;
void lock_row_encode(struct buffer *b, const struct lock_row *r);
void lock_row_decode(struct cursor *c, struct lock_row *r_out);
/* For people, without the file: "exclusive  flock  holds  process 7 at n1, …". */
const char *lock_kind_name(uint8_t kind);             /* "flock", "range", "delegated" */
const char *lock_mode_name(const struct lock_row *r); /* "exclusive", "shared", "delegated" */
#define LOCK_TEXT_MAX 256
void lock_row_text(const struct lock_row *r, char text_out[LOCK_TEXT_MAX]);

/* "create", "write", "rename", … for the operation log and the command line. */
const char *command_op_name(uint8_t op);
/* The same, with "restore" for a `set` that brought an old version back. */
const char *version_row_op(const struct version_row *r);

#endif

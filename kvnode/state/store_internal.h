/* What the files of the store share. Not for others.
 *
 *   inode ──names──► dentry ──dir──► directory ──inode──► inode … the root
 *
 * An inode has names, in the order of their numbers; a directory one. It has none if it
 * is the root, or was removed but is pinned on this node. The number of a version belongs to the
 * name: an inode goes by that of its first one. A directory's struct belongs to
 * its history id and outlives the inode for as long as names with history are
 * left in it. Every change of a row is bracketed: x_begin() takes the row's
 * digest out of the sum, x_end() puts the new one in and notes it in the journal. */
#ifndef KVFS_KVNODE_STATE_STORE_INTERNAL_H
#define KVFS_KVNODE_STATE_STORE_INTERNAL_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "kvnode/state/rewrite.h"
#include "kvnode/state/settings.h"
#include "kvnode/state/store.h"
#include "kvnode/state/store_rows.h"
#include "kvnode/state/value.h"
#include "kvnode/state/xattrs.h"
#include "sync/base/hash.h"
#include "sync/base/error.h"

#define EXPIRE_MAX 16  /* sessions that end with one command because of their age */
#define FORGET_MAX 600 /* dead names that are forgotten with one command; one makes fewer */
/* Sessions: all, those of one user, those of all users, those of root and all users. The
 * rest is the nodes' own; one more, and the one of them that was silent for longest ends. */
#define SESSIONS_MAX 10000
#define SESSIONS_OWNER_MAX 1000
#define SESSIONS_USERS_MAX 9000
#define SESSIONS_NODES_MAX 100
/* Unacknowledged answers that a session may leave behind, and all those of one owner but 0. */
#define SESSION_RESULTS_MAX 4096
#define OWNER_RESULTS_MAX 32768
/* A session that holds locks, or waits for one, ends when nothing was heard of it for so long. */
#define LOCK_LEASE_MS 10000
/* Ranges and waits: of one file, of a session, of all, of all users. */
#define LOCKS_FILE_MAX 2048
#define LOCK_WAITS_FILE_MAX 512
#define LOCKS_SESSION_MAX 4096
#define LOCKS_MAX 131072
#define LOCKS_USERS_MAX 98304
/* With so many a session, all, or all users get no table of a file for themselves: it counts as one, though
 * nothing may be locked in it, and is to take no room from what is. */
#define LOCK_TABLES_SESSION_MAX (LOCKS_SESSION_MAX / 4)
#define LOCK_TABLES_MAX (LOCKS_MAX / 2)
#define LOCK_TABLES_USERS_MAX (LOCKS_USERS_MAX / 2)
/* Sessions that end with one command: no more once so many locks were freed. */
#define EXPIRE_LOCKS_MAX 1024
/* Owners that a walk for a deadlock comes by at most, and holders that all walks of a command look at. */
#define DEADLOCK_OWNERS_MAX 256
#define DEADLOCK_LOOKS_MAX 500000
#define REMOVED_INODES_MAX 10000
#define REMOVED_BYTES_MAX (64UL << 20)
#define ASIDE_MS 10000 /* see store_history.c */
#define INODE_NAMES_MAX 1000
/* Names that one EXPIRE takes away: of no more files, once it were so many. */
#define EXPIRE_NAMES_MAX 1000
/* Of a transaction: names of which a row changes, and chunks of values that go. */
#define TXN_NAMES_MAX 1536
#define TXN_CHUNKS_MAX 4096

/* A hash table that grows moves everything in it, at once: a million names for 100 ms.
 * So those of inodes and dentries are many small ones, by the hash's upper bits; uthash
 * takes the lower ones. */
#define STORE_SHARDS 256
static inline unsigned store_shard(unsigned hash)
{
    return hash >> 24;
}
#define STORE_EACH(tables, item, next)                                                                       \
    for (size_t shard_ = 0; shard_ < STORE_SHARDS; shard_++)                                                 \
    HASH_ITER(hh, (tables)[shard_], item, next)

struct directory;

/* The provisional tombstone of a dead entry. */
struct aside {
    uint64_t revision, ms, digest;
};

struct dentry {
    UT_hash_handle hh; /* store.dentries, by dir and name */
    union {
        RB_ENTRY(dentry) tree; /* living: directory.living, by number */
        struct {
            TAILQ_ENTRY(dentry) queue; /* store.dead, by number */
            LIST_ENTRY(dentry) peers;  /* directory.dead */
        } dead;
    } at;
    union {
        struct inode *inode;    /* living */
        struct directory *past; /* ENTRY_PAST */
        struct aside *aside;    /* owned; ENTRY_ASIDE */
    } u;
    struct dentry *next_name; /* living: of the same inode */
    uint64_t number;
    uint64_t last_version;
    uint64_t history_digest;
    uint32_t dirty; /* journal: 1 + place, or 0 */
    uint8_t flags;  /* ENTRY_* */
    uint8_t name_len;
    struct directory *dir; /* with the name behind it: the key */
    uint8_t name[];
};

RB_HEAD(dentry_tree, dentry);
TAILQ_HEAD(dentry_queue, dentry);
LIST_HEAD(dentry_list, dentry);

struct directory {
    UT_hash_handle hh; /* store.directories, by history_id */
    uint64_t history_id;
    struct inode *inode; /* NULL: dead */
    struct dentry *tomb; /* dead: the entry from which a new directory inherits, or NULL */
    struct access last;  /* with tomb: whom it let in when it went */
    struct dentry_tree living;
    struct dentry_list dead;
    uint32_t n_living, n_directories;
    bool rooted; /* while a state is loaded: known to lie below the root */
};

enum {
    INODE_FRESH = 1,  /* created and not yet published: value.c is creation */
    INODE_PINNED = 2, /* this node only */
};

struct inode {
    UT_hash_handle hh; /* store.inodes, by ino */
    uint64_t ino;
    struct dentry *names; /* the first one; then next_name */
    uint64_t size;        /* files, links */
    union {
        struct chunk *one;
        struct chunk **list;
        struct directory *dir; /* directories; owned while it lives */
        uint64_t creation;     /* INODE_FRESH: sum of the digests of the rows since its creation */
    } c;
    struct xattrs *xattrs; /* owned; NULL: none */
    int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
    uint64_t version; /* as of its first name: dentry_version() */
    uint64_t revision, content_revision;
    uint64_t content_digest;
    uint32_t n_names;
    uint32_t uid, gid;
    uint32_t dirty; /* journal: 1 + place, or 0 */
    uint32_t ttl;   /* 1 + place in store.ttls, or 0 */
    uint16_t mode;
    uint8_t type;
    uint8_t flags;
};

/* An inode that has a time to live. */
struct ttl {
    struct inode *in;                 /* borrowed */
    uint64_t ttl_ms : 40, asked : 24; /* asked: the round of store_expired() that named it last */
    uint64_t expires_ms;
};

/* A binary heap of them, by the time at which they go: who has none takes no room. Directories stand behind
 * all files. Its order is this node's own where the times are equal. */
struct ttls {
    struct ttl *heap; /* owned */
    uint32_t n, cap;
    uint32_t files; /* of n */
};

struct pin {
    UT_hash_handle hh;
    uint64_t ino;
    uint64_t count;
};

struct kept_result {
    uint64_t seq;
    bool queued; /* handed to the journal */
    struct command_result result;
};

/* Whose sessions they are: a uid, 0 for root and those whom nodes trust like him, or
 * COMMAND_UID_NODE for the nodes' own. There while he has any. */
struct owner {
    UT_hash_handle hh; /* store.owners */
    uint32_t uid;
    uint32_t sessions;
    uint64_t upload_cost;
    uint64_t results;
};

static inline bool owner_is_user(const struct owner *o)
{
    return o->uid != 0 && o->uid != COMMAND_UID_NODE;
}

/* The parts of an unfinished command. */
struct upload {
    LIST_ENTRY(upload) peers;
    uint64_t session, seq;
    uint32_t n_parts;
    uint64_t digest; /* sum of its rows */
    struct buffer bytes;
    size_t joined;         /* of bytes: the last piece, which came with the command itself */
    struct buffer ends;    /* n_parts × uint32_t: where each part ends in bytes */
    uint32_t queued_parts; /* handed to the journal's records: the first ones */
    uint32_t dirty;        /* journal: 1 + place, or 0 */
};

struct session {
    UT_hash_handle hh;          /* store.sessions, by id */
    UT_hash_handle hh_nonce;    /* store.nonces */
    TAILQ_ENTRY(session) order; /* store.session_order, by seen_ms, id */
    uint64_t id;
    uint8_t nonce[16];
    uint64_t seen_ms;
    uint64_t acked_below;
    struct kept_result *results; /* owned; [first, first + n) by seq */
    size_t first, n, cap;
    LIST_HEAD(, upload) uploads;
    uint64_t upload_cost;
    struct session_locks *locks; /* owned; NULL: it has none and waits for none */
    struct owner *owner;
    uint64_t trimmed_below; /* journal: results below it are known to be gone there */
    uint32_t lease_ms;      /* of its locks; 0: LOCK_LEASE_MS */
    uint32_t dirty;         /* journal */
    uint8_t client_len;
    uint8_t client[];
};

TAILQ_HEAD(session_queue, session);

/* fence.c */
struct fence {
    UT_hash_handle hh; /* store.fences, by row.ino */
    struct fence_row row;
};

struct store {
    uint16_t group;
    struct journal *journal; /* borrowed; may be NULL */
    struct store_events events;
    uint64_t applied, wall_ns, elapsed_ms;
    uint64_t applying; /* the command that is being applied */
    uint64_t next_ino, next_number;
    uint64_t next_chunk; /* this node's own */
    uint64_t digest;     /* of all rows but meta */
    struct inode *inodes[STORE_SHARDS], *root;
    struct inode *removed; /* uthash: files without a name, memory only */
    uint64_t removed_bytes;
    struct dentry *dentries[STORE_SHARDS];
    uint64_t n_inodes, n_dentries;
    struct directory *directories;
    struct dentry_queue dead;
    uint64_t n_dead;
    uint64_t keys, bytes;
    struct session *sessions, *nonces;
    struct session_queue session_order;
    struct owner *owners;
    uint64_t part_bytes;
    struct {
        uint64_t sessions, upload_cost;
    } users; /* of all users: owner_is_user() */
    uint64_t upload_cost;
    struct spent *spent; /* owned; store_spent.c */
    struct settings settings;
    struct lock_table *locks; /* owned */
    struct fence *fences;     /* owned */
    struct ttls ttls;
    struct pin *pins;
    struct prepared *prepared; /* owned; store_prepare.c */
    struct event held;         /* waits to learn whether it is the last of its command */
    bool has_held;
    uint8_t held_name[KV_NAME_MAX], held_new_name[KV_NAME_MAX];
    uint32_t groups[COMMAND_GROUPS_MAX];
    bool failed; /* out of memory: the state is damaged */
};

/* One command being applied. */
struct apply {
    struct store *s;
    uint64_t index;
    const struct command *cmd;
    const struct command_body *body;
    struct command_result *result;
    struct caller who;
    size_t item; /* of a transaction, from 1 on; 0: it is none */
};

/* inode.c */
struct inode *inode_new(struct store *s, uint64_t ino, uint8_t type); /* in the table; NULL: out of memory */
void inode_destroy(struct store *s, struct inode *in);                /* out of the table, memory only */
/* The same for one without a name, but a file that is not too large is kept aside. */
void inode_let_go(struct store *s, struct inode *in);
struct inode *inode_find(const struct store *s, uint64_t ino); /* pinned ones without a name too */
struct inode *inode_live(const struct store *s, uint64_t ino); /* the root or with a name */
void inode_attr(const struct inode *in, struct attr *attr_out);
void inode_row(const struct ttls *ttls, const struct inode *in, struct inode_row *row_out);
/* What it takes of the room for data. */
uint64_t inode_bytes(const struct inode *in);
struct value inode_value(const struct inode *in);
void inode_set_value(struct inode *in, const struct value *v);
void inode_begin(struct store *s, const struct inode *in);
void inode_end(struct store *s, struct inode *in);
/* Takes it out of the replicated state; kept if it is pinned, else set aside or freed. */
void inode_remove(struct store *s, struct inode *in);
/* What is set aside: this node only, not in the table of inodes. NULL: not there. */
struct inode *inode_removed(const struct store *s, uint64_t ino);
void inode_forget_removed(struct store *s); /* the one that was removed first */

/* directory.c */
RB_PROTOTYPE(dentry_tree, dentry, at.tree, dentry_compare)
struct directory *directory_new(struct store *s, uint64_t history_id);
struct directory *directory_find(const struct store *s, uint64_t history_id);
void directory_release(struct store *s, struct directory *dir); /* frees it if nothing needs it */
struct dentry *dentry_find(const struct store *s, const struct directory *dir, const void *name, size_t len);
/* A dentry with nothing in it, in the table only. NULL: out of memory. */
struct dentry *dentry_new(struct store *s, struct directory *dir, const void *name, size_t len);
void dentry_destroy(struct store *s, struct dentry *d); /* memory only */
void dentry_row(const struct dentry *d, struct entry_row *row_out);
void dentry_begin(struct store *s, const struct dentry *d);
void dentry_end(struct store *s, struct dentry *d);
void dentry_forget(struct store *s, struct dentry *d); /* takes the row away; then destroys it */
#define DENTRY_EACH(d, in) for (d = (in)->names; d != NULL; d = d->next_name)
/* Of a living one: which version its content is, 0 without history; and the attributes with it. */
uint64_t dentry_version(const struct dentry *d);
void dentry_attr(const struct dentry *d, struct attr *attr_out);
/* Links and counts only; the row is the caller's, and the inode's if the name that goes is not its last. */
void dentry_attach(struct store *s, struct dentry *d, struct inode *in);
void dentry_detach(struct store *s, struct dentry *d); /* living → in no list */
void dentry_bury(struct store *s, struct dentry *d);   /* in no list → dead */
void dentry_exhume(struct store *s, struct dentry *d); /* dead → in no list */
/* Drops the histories of the names that died first until the limit is kept. */
void directory_limit_dead(struct store *s);
/* The number of a file's name, as its row has it. */
static inline uint64_t dentry_own_version(const struct dentry *d)
{
    return (d->flags & ENTRY_NO_HISTORY) != 0 ? 0 : d->last_version;
}
static inline bool dentry_is_dead(const struct dentry *d)
{
    return (d->flags & ENTRY_DEAD) != 0;
}

/* permission.c. caller may be NULL: trusted. */
bool permission_root(const struct caller *who);
bool permission_in_group(const struct caller *who, uint32_t gid);
int permission_check(const struct caller *who, const struct inode *in, unsigned mask);
/* Search permission on all directories from the root down to the name of in, but for
 * the caller's own. KV_OK, KV_E_ACCES, KV_E_NAMETOOLONG (deeper than any path). *steps
 * grows by the directories that were looked at; may be NULL. */
int permission_reach(const struct caller *who, const struct inode *in, unsigned *steps);
/* Removing `victim` from dir: w+x, and the sticky bit. */
int permission_remove(const struct caller *who, const struct inode *dir, const struct inode *victim);

/* store_path.c: walks a path. */
struct walked {
    struct inode *parent; /* of the last name found or missing; the root's: itself */
    struct inode *inode;  /* NULL: missing */
    struct dentry *entry; /* that leads to it; NULL: missing, or the root */
    const uint8_t *name;  /* the last name, borrowed from the path; empty for the root */
    size_t name_len;
    const uint8_t *rest; /* when a directory on the way is missing: from its name on */
    size_t rest_len;
};
/* 0 (found), KV_E_NOENT (walked_out says how far), KV_E_NOTDIR, KV_E_ACCES… */
int path_walk(const struct store *s, const struct caller *who, const void *path, size_t len,
              struct walked *walked_out);

/* store_history.c */
enum note_kind { NOTE_CONTENT, NOTE_ATTRIBUTES, NOTE_TOMBSTONE };
struct note {
    enum note_kind kind;
    const struct dentry *from, *to; /* rename; link: another name */
    uint64_t restored;
    bool again;              /* of the inode whose row was added right before, by another name */
    struct aside *aside_out; /* if a row was added: what takes it back */
};
/* Adds a row to d's history about its inode, as they are now; between
 * dentry_begin() and dentry_end(). Does nothing for a name without history. Whether it added one. */
bool history_note(struct apply *ap, struct dentry *d, struct inode *in, const struct note *note);
/* Numbers the content that in has now as the next version of d, one of its names. */
void history_next_version(struct dentry *d, struct inode *in);
/* Takes back the rows since the creation of in (INODE_FRESH), or keeps them. */
void history_replace_creation(struct apply *ap, struct dentry *d, struct inode *in);
void history_end_creation(struct inode *in);
/* The name is taken again: takes back the tombstone or keeps it. */
void history_settle_aside(struct apply *ap, struct dentry *d);

/* store_apply*.c: one function an operation; 0, KV_E_*, or -ENOMEM. */
int apply_create(struct apply *ap);
int apply_mkdir(struct apply *ap);
int apply_symlink(struct apply *ap);
int apply_mknod(struct apply *ap);
int apply_link(struct apply *ap);
int apply_unlink(struct apply *ap);
int apply_rmdir(struct apply *ap);
int apply_rename(struct apply *ap);
int apply_setattr(struct apply *ap);
int apply_setxattr(struct apply *ap);
int apply_removexattr(struct apply *ap);
int apply_publish(struct apply *ap);
int apply_set(struct apply *ap);
int apply_del(struct apply *ap);
int apply_prune(struct apply *ap);

/* store_apply_content.c: rows of in and its names, around a change of it. */
void rows_begin(struct apply *ap, struct inode *in);
void rows_end(struct apply *ap, struct inode *in, const struct note *note);

/* What the body of a PUBLISH, SET or SYMLINK makes of base, not begun yet. */
void rewrite_begin(struct rewrite *r, struct store *s, uint8_t op, const struct command_body *body,
                   const struct value *base, uint64_t base_digest);

/* ttl.c: times to live. The changes between inode_begin() and inode_end(); out of memory: s->failed. */
const struct ttl *ttl_of(const struct ttls *t, const struct inode *in);                /* NULL: it has none */
void ttl_put(struct store *s, struct inode *in, uint64_t ttl_ms, uint64_t expires_ms); /* directories: 0 */
void ttl_drop(struct store *s, struct inode *in);                                      /* if it has one */
/* store_apply_ttl.c: the file's content was written, with a ttl of its own or 0: then it gets that of the
 * directory, or none. */
void ttl_written(struct apply *ap, struct inode *in, uint64_t ttl_ms);
/* Its time begins anew, if it has one. */
void ttl_renew(struct apply *ap, struct inode *in);
int ttl_change(struct apply *ap, struct inode *in); /* SETXATTR, REMOVEXATTR: those who may */
int apply_expire(struct apply *ap);

/* store_apply_txn.c */
int apply_txn(struct apply *ap);
/* store_txn_plan.c: would these items, from number `first` on up to an ELSE, go through one after the other?
 * KV_OK; what refuses the one whose number is left in *item_out; KV_E_INVAL also if it changes what one
 * before it has changed; KV_E_FBIG: a limit of transactions; -ENOMEM. Changes nothing. */
int txn_plan(const struct apply *ap, struct cursor items, size_t first, size_t *item_out);

/* store_spent.c: takes a buffer's memory over, to give it back in steps if it is large. */
void store_spend(struct store *s, struct buffer *b);
void store_spent_free(struct store *s); /* all of it at once */

/* store_prepare.c: what was made of base before the command is applied; NULL: nothing. */
struct rewrite *store_prepared(struct apply *ap, const struct value *base);
void store_unprepare(struct store *s); /* drops it */

/* store_names.c: what several operations do to names. */
bool name_is_temporary(const struct store *s, const struct inode *parent, const void *name, size_t len);
/* Makes d (dead, or NULL: missing) ready to be attached: out of the lists, its
 * row between dentry_begin() and dentry_end(). past_out: the directory whose
 * history id a new one inherits, or NULL; without past_out it is given up. */
int name_open(struct apply *ap, struct inode *parent, struct dentry *d, const void *name, size_t len,
              uint8_t type, struct dentry **d_out, struct directory **past_out);
/* d was detached and its row begun: buries or forgets it. */
int name_close(struct apply *ap, struct dentry *d, struct directory *past, const struct aside *aside);
/* A new inode under parent/name, attached and numbered; the caller fills it and
 * calls name_added(), which notes its first row and ends both rows. */
int name_add(struct apply *ap, struct inode *parent, struct dentry *d, const void *name, size_t len,
             uint8_t type, uint16_t mode, struct inode **in_out);
void name_added(struct apply *ap, struct dentry *d, const struct note *note);
/* Takes d, whose row is begun, off its inode, which goes with its last name; and tells so. */
void name_take(struct apply *ap, struct dentry *d);
/* Removes d, and its inode if that was its last name, with a tombstone. */
int name_remove(struct apply *ap, struct dentry *d);
void parent_changed(struct apply *ap, struct inode *parent);
void emit_name(struct apply *ap, uint8_t kind, const struct dentry *d, const struct inode *in);
void emit_event(struct apply *ap, const struct event *e);
void emit_last(struct apply *ap); /* EVENT_NOTHING if there was none */
/* draft, with this digest, becomes in's content; consumed. Between inode_begin()
 * and inode_end(). */
void content_commit(struct apply *ap, struct inode *in, struct draft *draft, uint64_t digest);

/* store_session.c */
struct session *session_find(const struct store *s, uint64_t id);
void session_expire(struct store *s);
int session_register(struct apply *ap);
void session_drop(struct store *s, struct session *ss);
void session_drop_all(struct store *s); /* memory only */
void session_touch(struct store *s, struct session *ss, uint64_t acked_below);
const struct command_result *session_kept(const struct session *ss, uint64_t seq);
int session_keep(struct store *s, struct session *ss, uint64_t seq, const struct command_result *result);
void session_row(const struct session *ss, struct session_row *row_out);
void session_set_lease(struct store *s, struct session *ss, uint32_t lease_ms);
struct session *session_new(struct store *s, const struct session_row *row); /* in all tables */
int session_add_result(struct session *ss, uint64_t seq, const struct command_result *result, bool queued);
bool session_results_full(const struct session *ss);

/* store_upload.c */
int session_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                 size_t len);
/* queued: state.db has it. */
int session_add_part(struct store *s, struct session *ss, uint64_t seq, uint32_t number, const void *bytes,
                     size_t len, bool queued);
/* The whole body of a command in parts, whose last piece is given: borrowed from the
 * upload. 0, KV_E_PART or -ENOMEM. */
int session_join(const struct session *ss, const struct command *cmd, const void **body_out, size_t *len_out);
struct upload *session_upload(const struct session *ss, uint64_t seq);
void session_drop_upload(struct store *s, struct session *ss, struct upload *up);
void upload_free(struct store *s, struct session *ss, struct upload *up); /* memory only */

/* lock.c: who has locked what, and who waits. */
struct lock_table *lock_table_new(void);
void lock_table_free(struct lock_table *t); /* after the sessions */
int apply_lock(struct apply *ap);
int apply_unlock(struct apply *ap);
int apply_unwait(struct apply *ap);
int apply_lock_put(struct apply *ap);
/* The session ends: what it has is free, and those who wait for that get it. Returns how much it had. */
uint32_t session_unlock(struct store *s, struct session *ss);
void session_forget_locks(struct store *s, struct session *ss); /* memory only */
/* lock_lease.c. It was heard of: seen_ms is new; or lease_ms is. */
void session_renew_locks(struct store *s, struct session *ss);
/* The one that has locks, or waits, and ends first if it is silent; NULL: none has. */
struct session *session_first_with_locks(const struct store *s);
/* When it does, by the elapsed clock. */
uint64_t session_locks_until(const struct session *ss);
/* The events of waits that have ended with this command. */
void emit_waits(struct apply *ap);
/* A row of state.db. 0; -EUCLEAN: it does not go with the others; -ENOMEM. */
int lock_load(struct store *s, const struct lock_row *row);

/* fence.c: see COMMAND_FENCE. */
const struct fence_row *fence_find(const struct store *s, uint64_t ino); /* NULL: it has none */
/* There is to be one of this file, which is there. 0 or -ENOMEM. */
int fence_make(struct store *s, uint64_t ino);
/* Its lock was granted to somebody who did not have it like this. */
void fence_granted(struct store *s, uint64_t ino, bool exclusive);
void fence_drop(struct store *s, uint64_t ino);
/* It is the number of its last grant: a later one is another lock's. */
bool fence_permits(const struct store *s, uint64_t ino, uint64_t fence);
/* A row of state.db. 0; -EUCLEAN: it does not go with the others; -ENOMEM. */
int fence_load(struct store *s, const struct fence_row *row);
void fences_free(struct store *s);

/* The cluster's wall clock: later than that of every earlier command. */
static inline int64_t now_ns(const struct store *s)
{
    return (int64_t)s->wall_ns;
}

/* store.c */
uint64_t store_new_ino(struct store *s);
void store_meta(const struct store *s, struct meta_row *row_out);

#endif

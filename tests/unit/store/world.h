/* A store under test: commands as functions, a clock that moves by hand, the
 * events of the last command. */
#ifndef KVFS_TESTS_UNIT_STORE_WORLD_H
#define KVFS_TESTS_UNIT_STORE_WORLD_H

#include "kvnode/state/journal.h"
#include "kvnode/state/store.h"
#include "sync/base/error.h"

#define WORLD_EVENTS 32

struct world_event {
    uint8_t kind, op, last;
    uint64_t ino, parent, new_parent, base_revision;
    char name[256], new_name[256];
    struct attr attr;
};

struct world {
    struct store *s;   /* owned */
    struct journal *j; /* owned; may be NULL */
    uint64_t index;    /* of the last command */
    uint64_t wall_ns, elapsed_ms;
    uint64_t session, seq, acked_below;
    uint32_t round; /* of world_expire() */
    uint32_t uid, gid;
    uint16_t flags;
    const char *label;  /* of the author; NULL: none */
    uint32_t groups[4]; /* host order */
    uint32_t n_groups;
    struct buffer bytes; /* the last command, encoded */
    struct command_result result;
    struct world_event events[WORLD_EVENTS]; /* of the last command */
    int n_events;
    void *tap_arg; /* sees every encoded command, if set */
    void (*tap)(void *arg, uint64_t index, const void *bytes, size_t len);
    void *instead_arg; /* takes what world_…() would apply, if set */
    void (*instead)(void *arg, const void *bytes, size_t len);
};

/* Root, trusted, in a session of its own. */
void world_init(struct world *w, bool with_journal);
void world_deinit(struct world *w);
/* Another store in the place of w's, which is freed (after a restart). */
void world_adopt(struct world *w, struct store *s, struct journal *j);
struct store_events world_events(struct world *w);

/* All return the result's code; the result is w->result. */
int world_apply(struct world *w, const void *bytes, size_t len);
int world_command(struct world *w, uint8_t op, const struct command_body *body);
int world_raw(struct world *w, uint8_t op, uint64_t session, uint64_t seq, const void *body, size_t len);
int world_register(struct world *w, const char *nonce16, uint64_t *session_out);
int world_create(struct world *w, uint64_t parent, const char *name);
int world_mkdir(struct world *w, uint64_t parent, const char *name);
int world_symlink(struct world *w, uint64_t parent, const char *name, const char *target);
int world_mknod(struct world *w, uint64_t parent, const char *name, uint8_t type);
/* value: text; flags: XATTR_*. */
int world_setxattr(struct world *w, uint64_t ino, const char *name, const char *value, uint8_t flags);
int world_setxattr_bytes(struct world *w, uint64_t ino, const char *name, const void *value, size_t len,
                         uint8_t flags);
int world_removexattr(struct world *w, uint64_t ino, const char *name);
/* Its value as text (static buffer, cut at 1,023 bytes); "(none)". */
const char *world_xattr(const struct world *w, uint64_t ino, const char *name);
/* All names, "a b" (static). */
const char *world_xattrs(const struct world *w, uint64_t ino);
int world_link(struct world *w, uint64_t ino, uint64_t parent, const char *name);
int world_unlink(struct world *w, uint64_t parent, const char *name);
int world_rmdir(struct world *w, uint64_t parent, const char *name);
int world_rename(struct world *w, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name);
int world_exchange(struct world *w, uint64_t parent, const char *name, uint64_t new_parent,
                   const char *new_name);
int world_chmod(struct world *w, uint64_t ino, uint16_t mode);
int world_setattr(struct world *w, const struct command_body *body);
int world_publish(struct world *w, uint64_t ino, bool replace, const struct edit *edits, size_t n);
int world_write(struct world *w, uint64_t ino, uint64_t offset, const void *data, size_t len);
int world_append(struct world *w, uint64_t ino, const void *data, size_t len);
int world_truncate(struct world *w, uint64_t ino, uint64_t size);
int world_set(struct world *w, const char *path, const char *value);
int world_set_bytes(struct world *w, const char *path, const void *value, size_t len, uint8_t flags,
                    uint64_t version);
int world_set_ttl(struct world *w, const char *path, const char *value, uint64_t ttl_ms);
/* As the leader does when it looks: the names that went with what is over now. */
uint64_t world_expire(struct world *w);
int world_del(struct world *w, const char *path, bool recursive);
int world_setting(struct world *w, const char *name, const char *value);
int world_tick(struct world *w);

/* 0 if missing. */
uint64_t world_ino(const struct world *w, const char *path);
uint64_t world_version(const struct world *w, const char *path);
struct attr world_attr(const struct world *w, const char *path);
/* Content as text (static buffer, cut at 1,023 bytes); "(missing)". */
const char *world_get(const struct world *w, const char *path);
/* Names in listing order, "a b c" (static). */
const char *world_list(const struct world *w, const char *path);
/* The digest equals that of all rows, recomputed. */
bool world_digest_is_right(const struct world *w);

#endif

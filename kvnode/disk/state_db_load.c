/* From state.db to memory. Everything that memory will rely on is checked: each
 * chunk's checksum, the links between rows, and in the end the digest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/state/store_internal.h"

struct load {
    struct store *s;
    struct state_file file;
    sqlite3_stmt *chunk;
    struct dentry **dead; /* owned */
    size_t n_dead, cap_dead;
};

static int no_memory(const struct load *l)
{
    return state_file_fail(&l->file, SQLITE_NOMEM);
}

static int damaged(const struct load *l, const char *what, uint64_t number)
{
    return state_file_damaged(&l->file, what, number);
}

static int load_setting(struct load *l, const struct state_row *row)
{
    const char *name = row->u.setting.name, *value = row->u.setting.value;
    enum setting i = setting_find(name, strlen(name));

    if (i == SETTING_COUNT)
        return state_db_damaged(l->file.path, l->file.error, "unknown setting %.64s", name);
    if (settings_set(&l->s->settings, i, value, strlen(value)) != KV_OK)
        return state_db_damaged(l->file.path, l->file.error, "bad value of setting %s", name);
    l->s->digest += state_row_digest(STATE_SETTING, row);
    return 0;
}

/* The first len bytes of a stored chunk, which has `longest` at most. */
static int load_chunk(struct load *l, uint64_t id, uint32_t len, size_t longest, struct chunk **chunk_out)
{
    struct stored_chunk stored;
    struct chunk *c;
    int code, rv = 0;

    *chunk_out = NULL;
    if (id == 0)
        return 0;
    code = stored_chunk_read(l->chunk, id, len, &stored);
    if (code != SQLITE_ROW) {
        rv = code == SQLITE_DONE ? damaged(l, "no chunk", id) : state_file_fail(&l->file, code);
    } else if (!stored.good || stored.len > longest) {
        rv = damaged(l, "chunk", id);
    } else if ((c = chunk_new(id, len)) == NULL) {
        rv = no_memory(l);
    } else {
        memcpy(c->data, stored.data, len);
        c->used = len;
        c->queued = (uint32_t)stored.len;
        c->superseded = stored.len > len; /* somebody else's bytes follow */
        c->history = true;
        *chunk_out = c;
    }
    sqlite3_reset(l->chunk);
    return rv;
}

static int load_value(struct load *l, struct inode *in, uint64_t size, const struct id_list *ids)
{
    struct value v = {0};
    struct chunk **list = &v.c.one;
    size_t n = value_chunks(size);
    int rv = 0;

    if (n > 1) {
        list = calloc(n, sizeof *list);
        if (list == NULL)
            return no_memory(l);
        v.c.list = list;
    }
    v.size = size;
    for (size_t i = 0; i < n && rv == 0; i++)
        rv = load_chunk(l, ids->ids[i], value_chunk_len(size, i), KV_CHUNK_SIZE, &list[i]);
    if (rv < 0) {
        value_deinit(&v);
        return rv;
    }
    inode_set_value(in, &v);
    in->content_digest = value_digest(&v);
    return 0;
}

static int load_xattrs(struct load *l, struct inode *in, const struct inode_row *row, uint64_t id)
{
    struct chunk *c;
    bool malformed;
    int rv = load_chunk(l, id, row->xattr_size, KV_XATTRS_MAX, &c);

    if (rv < 0)
        return rv;
    if (c == NULL || (in->type != INODE_FILE && in->type != INODE_DIRECTORY)) {
        chunk_unref(c);
        return damaged(l, "extended attributes of inode", in->ino);
    }
    in->xattrs = xattrs_new(c, &malformed);
    if (in->xattrs == NULL)
        return malformed ? damaged(l, "extended attributes of inode", in->ino) : no_memory(l);
    return 0;
}

static int load_directory_inode(struct load *l, const struct inode_row *row, struct inode *in)
{
    if (in == l->s->root) {
        if (row->history != KV_ROOT_INO)
            return damaged(l, "history id of the root:", row->history);
        return 0;
    }
    if (row->history == 0 || directory_find(l->s, row->history) != NULL)
        return damaged(l, "history id of directory", row->ino);
    in->c.dir = directory_new(l->s, row->history);
    if (in->c.dir == NULL)
        return no_memory(l);
    in->c.dir->inode = in;
    return 0;
}

/* The digest is that of what is in memory, its value included. */
static void add_inode(struct load *l, const struct inode *in)
{
    struct inode_row row;

    inode_row(&l->s->ttls, in, &row);
    l->s->digest += inode_row_digest(&row);
}

static int load_inode(struct load *l, const struct state_row *of_file)
{
    struct inode_row row = of_file->u.inode;
    struct inode *in;
    int rv;

    if (row.ino == KV_ROOT_INO && row.type != INODE_DIRECTORY)
        return damaged(l, "inode", row.ino);
    if (!id_list_fits(&of_file->ids, row.size, row.xattr_size) ||
        (row.size > 0 && ((row.type != INODE_FILE && row.type != INODE_SYMLINK) || row.fresh)))
        return damaged(l, "size of inode", row.ino);
    in = row.ino == KV_ROOT_INO ? l->s->root : inode_new(l->s, row.ino, row.type);
    if (in == NULL)
        return no_memory(l);
    in->mode = row.mode;
    in->uid = row.uid;
    in->gid = row.gid;
    in->mtime_ns = row.mtime_ns;
    in->ctime_ns = row.ctime_ns;
    in->atime_ns = row.atime_ns;
    in->btime_ns = row.btime_ns;
    in->version = row.version;
    in->revision = row.revision;
    in->content_revision = row.content_revision;
    if (row.type == INODE_DIRECTORY)
        rv = load_directory_inode(l, &row, in);
    else
        rv = load_value(l, in, row.size, &of_file->ids);
    if (rv == 0 && row.xattr_size > 0)
        rv = load_xattrs(l, in, &row, of_file->ids.ids[of_file->ids.n - 1]);
    if (rv == 0 && in == l->s->root)
        l->s->bytes += inode_bytes(in); /* of the others it is counted with a name */
    if (rv == 0 && row.fresh) {
        in->flags |= INODE_FRESH;
        in->c.creation = row.creation;
    }
    if (rv == 0 && row.ttl_ms > 0) {
        ttl_put(l->s, in, row.ttl_ms, row.expires_ms);
        if (l->s->failed)
            rv = no_memory(l);
    }
    if (rv == 0)
        add_inode(l, in);
    return rv;
}

static int need_directory(struct load *l, uint64_t history_id, struct directory **dir_out)
{
    *dir_out = directory_find(l->s, history_id);
    if (*dir_out == NULL)
        *dir_out = directory_new(l->s, history_id);
    return *dir_out != NULL ? 0 : no_memory(l);
}

static int load_dead(struct load *l, const struct entry_row *row, struct dentry *d)
{
    int rv = 0;

    if (row->ino != 0 || (row->flags & (ENTRY_PAST | ENTRY_ASIDE)) == (ENTRY_PAST | ENTRY_ASIDE))
        return damaged(l, "dead entry", row->number);
    if ((row->flags & ENTRY_PAST) != 0) {
        rv = need_directory(l, row->past, &d->u.past);
        if (rv == 0 && (d->u.past->tomb != NULL || d->u.past->inode != NULL))
            rv = damaged(l, "dead entry", row->number);
        if (rv == 0) {
            d->u.past->tomb = d;
            d->u.past->last = (struct access){row->past_uid, row->past_gid, row->past_mode};
        }
    } else if ((row->flags & ENTRY_ASIDE) != 0) {
        d->u.aside = malloc(sizeof *d->u.aside);
        if (d->u.aside == NULL)
            return no_memory(l);
        *d->u.aside = (struct aside){row->aside_revision, row->aside_ms, row->aside_digest};
    }
    if (rv < 0)
        return rv;
    if (l->n_dead == l->cap_dead) {
        size_t cap = l->cap_dead > 0 ? 2 * l->cap_dead : 1024;
        struct dentry **dead = realloc(l->dead, cap * sizeof *dead);

        if (dead == NULL)
            return no_memory(l);
        l->dead = dead;
        l->cap_dead = cap;
    }
    l->dead[l->n_dead++] = d;
    d->flags = row->flags;
    return 0;
}

static bool may_have_one_more(const struct inode *in)
{
    return in->n_names == 0 || (in->type != INODE_DIRECTORY && in->n_names < INODE_NAMES_MAX);
}

static int load_entry(struct load *l, const struct state_row *of_file)
{
    const struct entry_row *row = &of_file->u.entry;
    struct entry_row loaded;
    struct directory *dir;
    struct dentry *d;
    struct inode *in;
    int rv;

    rv = need_directory(l, row->directory, &dir);
    if (rv < 0)
        return rv;
    d = dentry_new(l->s, dir, row->name, row->name_len);
    if (d == NULL)
        return no_memory(l);
    d->number = row->number;
    d->last_version = row->last_version;
    d->history_digest = row->history_digest;
    if ((row->flags & ENTRY_DEAD) != 0) {
        rv = load_dead(l, row, d);
    } else {
        in = inode_find(l->s, row->ino);
        if (in == NULL || !may_have_one_more(in) || in == l->s->root || dir->inode == NULL ||
            (row->flags & (ENTRY_PAST | ENTRY_ASIDE)) != 0)
            return damaged(l, "entry of inode", row->ino);
        d->flags = row->flags;
        if (RB_FIND(dentry_tree, &dir->living, d) != NULL)
            return damaged(l, "entry", row->number);
        dentry_attach(l->s, d, in);
    }
    if (rv == 0) {
        dentry_row(d, &loaded);
        l->s->digest += entry_row_digest(&loaded);
    }
    return rv;
}

static int compare_dead(const void *a, const void *b)
{
    const struct dentry *x = *(struct dentry *const *)a, *y = *(struct dentry *const *)b;

    return (x->number > y->number) - (x->number < y->number);
}

/* The number that an inode goes by is its first name's, and a link ends its creation. */
static bool names_are_right(const struct inode *in)
{
    return in->n_names < 2 ||
           (in->version == dentry_own_version(in->names) && (in->flags & INODE_FRESH) == 0);
}

/* The dead in the order of their deaths; every inode must have a name, and be
 * below the root. */
static int settle(struct load *l)
{
    struct inode *in, *next_in;
    struct directory *dir, *next_dir;

    if (l->n_dead > 0)
        qsort(l->dead, l->n_dead, sizeof *l->dead, compare_dead);
    for (size_t i = 0; i < l->n_dead; i++)
        dentry_bury(l->s, l->dead[i]);
    STORE_EACH(l->s->inodes, in, next_in)
    {
        if (in->names == NULL && in != l->s->root)
            return damaged(l, "no name for inode", in->ino);
        if (!names_are_right(in))
            return damaged(l, "names of inode", in->ino);
    }
    HASH_ITER(hh, l->s->directories, dir, next_dir)
    {
        const struct inode *up = dir->inode;
        size_t depth = 0;

        while (up != NULL && up->names != NULL && !up->c.dir->rooted &&
               depth++ <= HASH_CNT(hh, l->s->directories))
            up = up->names->dir->inode;
        if (dir->inode != NULL && up != l->s->root && (up == NULL || !up->c.dir->rooted))
            return damaged(l, "not below the root: inode", dir->inode->ino);
        /* Each level is walked once, however deep the tree. */
        for (up = dir->inode; up != NULL && !up->c.dir->rooted;
             up = up->names != NULL ? up->names->dir->inode : NULL)
            up->c.dir->rooted = true;
    }
    return 0;
}

static int load_session(struct load *l, const struct state_row *row)
{
    if (session_find(l->s, row->u.session.id) != NULL)
        return damaged(l, "session", row->u.session.id);
    l->s->digest += state_row_digest(STATE_SESSION, row);
    return session_new(l->s, &row->u.session) != NULL ? 0 : no_memory(l);
}

static int load_result(struct load *l, const struct state_row *row)
{
    struct session *ss = session_find(l->s, row->u.result.session);

    if (ss == NULL)
        return damaged(l, "result", row->u.result.seq);
    l->s->digest += state_row_digest(STATE_RESULT, row);
    return session_add_result(ss, row->u.result.seq, &row->u.result.result, true) == 0 ? 0 : no_memory(l);
}

/* session_add_part() adds it to the digest. */
static int load_part(struct load *l, const struct state_row *row)
{
    struct session *ss = session_find(l->s, row->u.part.session);
    const struct upload *up = ss != NULL ? session_upload(ss, row->u.part.seq) : NULL;

    if (ss == NULL || row->u.part.number != (up != NULL ? up->n_parts : 0))
        return damaged(l, "part of command", row->u.part.seq);
    return session_add_part(l->s, ss, row->u.part.seq, row->u.part.number, row->u.part.bytes, row->u.part.len,
                            true) == 0
               ? 0
               : no_memory(l);
}

/* lock_load() adds it to the digest. */
static int load_lock(struct load *l, const struct state_row *row)
{
    int rv = lock_load(l->s, &row->u.lock);

    if (rv == -ENOMEM)
        return no_memory(l);
    return rv == 0 ? 0 : damaged(l, "a lock of inode", row->u.lock.ino);
}

/* fence_load() adds it to the digest. */
static int load_fence(struct load *l, const struct state_row *row)
{
    int rv = fence_load(l->s, &row->u.fence);

    if (rv == -ENOMEM)
        return no_memory(l);
    return rv == 0 ? 0 : damaged(l, "the fence of inode", row->u.fence.ino);
}

/* The chunks of one inode: whether a row of history has them. ids: of a row; NULL: none has. */
static void mark_chunks(struct inode *in, const struct id_list *ids)
{
    struct value v = inode_value(in);

    for (size_t i = 0; i < value_chunks(v.size) && (ids == NULL || i < ids->n); i++)
        if (value_list(&v)[i] != NULL && (ids == NULL || value_list(&v)[i]->id == ids->ids[i]))
            value_list(&v)[i]->history = ids != NULL;
    if (in->xattrs != NULL && (ids == NULL || (ids->n > 0 && ids->ids[ids->n - 1] == in->xattrs->chunk->id)))
        in->xattrs->chunk->history = ids != NULL;
}

static const struct dentry *first_without_history(const struct inode *in)
{
    const struct dentry *d;

    DENTRY_EACH (d, in)
        if ((d->flags & ENTRY_NO_HISTORY) != 0)
            break;
    return d;
}

/* A value under a name without history may still share chunks with rows of
 * history: those must outlive it, the others not. The root has no rows. */
static int mark_history(struct load *l)
{
    struct dentry *d, *next_d;
    struct id_list ids = {0};
    sqlite3_stmt *st;
    int bound, rv = 0,
               code = sqlite3_prepare_v2(l->file.db, "SELECT chunks, revision FROM version WHERE ino=?", -1,
                                         &st, NULL);

    if (code != SQLITE_OK)
        return state_file_fail(&l->file, code);
    mark_chunks(l->s->root, NULL);
    STORE_EACH(l->s->dentries, d, next_d)
    {
        if (dentry_is_dead(d) || d != first_without_history(d->u.inode))
            continue;
        mark_chunks(d->u.inode, NULL);
        bound = state_db_bind_number(st, SQLITE_OK, 1, d->u.inode->ino);
        while (rv == 0 && (code = state_db_step(st, bound)) == SQLITE_ROW) {
            if (!id_list_read(&ids, st, 0))
                rv = damaged(l, "chunks of version row", (uint64_t)sqlite3_column_int64(st, 1));
            else
                mark_chunks(d->u.inode, &ids);
        }
        sqlite3_reset(st);
        if (rv == 0 && code != SQLITE_DONE)
            rv = state_file_fail(&l->file, code);
        if (rv < 0)
            break;
    }
    sqlite3_finalize(st);
    id_list_deinit(&ids);
    return rv;
}

static int load_row(void *arg, enum state_table t, const struct state_row *row)
{
    static int (*const loads[STATE_TABLES])(struct load * l, const struct state_row *row) = {
        [STATE_SETTING] = load_setting, [STATE_INODE] = load_inode,   [STATE_ENTRY] = load_entry,
        [STATE_SESSION] = load_session, [STATE_RESULT] = load_result, [STATE_PART] = load_part,
        [STATE_LOCK] = load_lock,       [STATE_FENCE] = load_fence,
    };

    return loads[t](arg, row);
}

static int load_tables(struct load *l)
{
    int64_t newest_chunk;
    int code, rv = 0;

    for (enum state_table t = 0; t < STATE_TABLES && rv == 0; t++)
        if (t != STATE_DROPPED) /* history_log() reads it when it is asked */
            rv = state_table_each(&l->file, t, l, load_row);
    if (rv == 0) {
        code = state_db_read_number(l->file.db, "SELECT max(id) FROM chunk", &newest_chunk);
        l->s->next_chunk = (uint64_t)newest_chunk + 1;
        rv = code == SQLITE_OK ? settle(l) : state_file_fail(&l->file, code);
    }
    if (rv == 0)
        rv = mark_history(l);
    return rv;
}

/* Nothing was written yet, or the row is lost. */
static int no_meta(struct load *l)
{
    int64_t inodes;
    int code = state_db_read_number(l->file.db, "SELECT count(*) FROM inode", &inodes);

    if (code != SQLITE_OK)
        return state_file_fail(&l->file, code);
    return inodes == 0 ? -ENOENT : damaged(l, "no meta row, inodes:", (uint64_t)inodes);
}

static int load_all(struct load *l)
{
    struct meta_record meta;
    struct state_owner owner;
    int rv = state_db_read_owner(l->file.db, l->file.path, &owner, l->file.error);

    if (rv < 0 && rv != -ENODATA)
        return rv;
    rv = state_db_read_meta(l->file.db, l->file.path, &meta, l->file.error);
    if (rv == -ENOENT)
        return no_meta(l);
    if (rv < 0)
        return rv;
    if (meta.group != l->s->group)
        return damaged(l, "it belongs to group", meta.group);
    l->s->digest = 0;
    rv = load_tables(l);
    if (rv < 0)
        return rv;
    l->s->applied = meta.applied;
    l->s->wall_ns = meta.row.wall_ns;
    l->s->elapsed_ms = meta.row.elapsed_ms;
    l->s->next_ino = meta.row.next_ino;
    l->s->next_number = meta.row.next_number;
    if (store_digest(l->s) != meta.digest)
        return damaged(l, "the digest is not that of index", meta.applied);
    return 0;
}

int state_db_load(const char *path, struct store *s, char error[STATE_DB_ERROR_MAX])
{
    struct load l = {.s = s, .file = {.path = path, .error = error}};
    int code, rv = state_db_open(path, STATE_DB_RECOVER, &l.file.db, error);

    if (rv < 0)
        return rv;
    /* Rows come almost in the file's order. A large cache is no faster, and its pages,
     * freed between the store's own memory, stay with the process. */
    code = sqlite3_exec(l.file.db, "PRAGMA cache_size=-1024; BEGIN", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v3(l.file.db, CHUNK_SQL, -1, SQLITE_PREPARE_PERSISTENT, &l.chunk, NULL);
    rv = code == SQLITE_OK ? load_all(&l) : state_file_fail(&l.file, code);
    sqlite3_finalize(l.chunk);
    sqlite3_exec(l.file.db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(l.file.db);
    free(l.dead);
    return rv;
}

/* Inodes: memory, rows and digests. A removed inode leaves the replicated state
 * at once; while it is pinned on this node its struct stays in the table without
 * a name, so that open files can be read on. Other files are kept aside for a
 * while, within bounds (store_read_removed). */
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

struct inode *inode_find(const struct store *s, uint64_t ino)
{
    unsigned hash;
    struct inode *in;

    HASH_VALUE(&ino, sizeof ino, hash);
    HASH_FIND_BYHASHVALUE(hh, s->inodes[store_shard(hash)], &ino, sizeof ino, hash, in);
    return in;
}

struct inode *inode_live(const struct store *s, uint64_t ino)
{
    struct inode *in = inode_find(s, ino);

    return in != NULL && (in->names != NULL || in == s->root) ? in : NULL;
}

struct inode *inode_new(struct store *s, uint64_t ino, uint8_t type)
{
    unsigned hash;
    struct inode *in = calloc(1, sizeof *in);

    if (in == NULL)
        return NULL;
    in->ino = ino;
    in->type = type;
    HASH_VALUE(&in->ino, sizeof in->ino, hash);
    HASH_ADD_BYHASHVALUE(hh, s->inodes[store_shard(hash)], ino, sizeof in->ino, hash, in);
    if (in->hh.tbl == NULL) {
        free(in);
        return NULL;
    }
    s->n_inodes++;
    return in;
}

struct value inode_value(const struct inode *in)
{
    struct value v = {.size = in->size};

    if (in->size > KV_CHUNK_SIZE)
        v.c.list = in->c.list;
    else if (in->size > 0)
        v.c.one = in->c.one;
    return v;
}

uint64_t inode_bytes(const struct inode *in)
{
    return (in->type != INODE_DIRECTORY ? in->size : 0) + xattrs_len(in->xattrs);
}

void inode_set_value(struct inode *in, const struct value *v)
{
    in->size = v->size;
    if (v->size > KV_CHUNK_SIZE)
        in->c.list = v->c.list;
    else
        in->c.one = v->c.one;
}

void inode_destroy(struct store *s, struct inode *in)
{
    struct value v = inode_value(in);

    HASH_DELETE(hh, s->inodes[store_shard(in->hh.hashv)], in);
    s->n_inodes--;
    value_deinit(&v);
    xattrs_free(in->xattrs);
    free(in);
}

void inode_attr(const struct inode *in, struct attr *attr_out)
{
    const struct directory *dir = in->type == INODE_DIRECTORY ? in->c.dir : NULL;

    *attr_out = (struct attr){
        .ino = in->ino,
        .type = in->type,
        .mode = in->mode,
        .uid = in->uid,
        .gid = in->gid,
        .nlink = in->n_names,
        .size = in->size,
        .mtime_ns = in->mtime_ns,
        .ctime_ns = in->ctime_ns,
        .atime_ns = in->atime_ns,
        .btime_ns = in->btime_ns,
        .version = in->version,
        .revision = in->revision,
        .content_revision = in->content_revision,
    };
    if (dir != NULL) {
        attr_out->size = dir->n_living;
        if (in->names != NULL || in->ino == KV_ROOT_INO)
            attr_out->nlink = 2 + dir->n_directories;
    }
}

void inode_row(const struct ttls *ttls, const struct inode *in, struct inode_row *row_out)
{
    const struct ttl *ttl = ttl_of(ttls, in);

    *row_out = (struct inode_row){
        .ino = in->ino,
        .type = in->type,
        .mode = in->mode,
        .uid = in->uid,
        .gid = in->gid,
        .size = in->size,
        .mtime_ns = in->mtime_ns,
        .ctime_ns = in->ctime_ns,
        .atime_ns = in->atime_ns,
        .btime_ns = in->btime_ns,
        .version = in->version,
        .revision = in->revision,
        .content_revision = in->content_revision,
        .history = in->type == INODE_DIRECTORY && in->c.dir != NULL ? in->c.dir->history_id : 0,
        .fresh = (in->flags & INODE_FRESH) != 0,
        .creation = (in->flags & INODE_FRESH) != 0 ? in->c.creation : 0,
        .content_digest = in->content_digest,
        .xattr_size = xattrs_len(in->xattrs),
        .xattr_digest = xattrs_digest(in->xattrs),
        .ttl_ms = ttl != NULL ? ttl->ttl_ms : 0,
        .expires_ms = ttl != NULL && in->type == INODE_FILE ? ttl->expires_ms : 0,
    };
}

void inode_begin(struct store *s, const struct inode *in)
{
    struct inode_row row;

    inode_row(&s->ttls, in, &row);
    s->digest -= inode_row_digest(&row);
}

void inode_end(struct store *s, struct inode *in)
{
    struct inode_row row;

    inode_row(&s->ttls, in, &row);
    s->digest += inode_row_digest(&row);
    journal_inode(s->journal, in);
}

/* Mounts may still hold the file by something that is no handle: a bind mount of it, an
 * O_PATH descriptor. They ask for its value when they hear of the removal. */
static void keep_removed(struct store *s, struct inode *in)
{
    HASH_DELETE(hh, s->inodes[store_shard(in->hh.hashv)], in);
    s->n_inodes--;
    HASH_ADD(hh, s->removed, ino, sizeof in->ino, in);
    if (in->hh.tbl == NULL) {
        struct value v = inode_value(in);

        value_deinit(&v);
        free(in);
        return;
    }
    s->removed_bytes += in->size;
    /* A table's head is what came first. */
    while (s->removed != NULL &&
           (HASH_COUNT(s->removed) > REMOVED_INODES_MAX || s->removed_bytes > REMOVED_BYTES_MAX))
        inode_forget_removed(s);
}

void inode_forget_removed(struct store *s)
{
    struct inode *in = s->removed;
    struct value v = inode_value(in);

    HASH_DELETE(hh, s->removed, in);
    s->removed_bytes -= in->size;
    value_deinit(&v);
    free(in);
}

struct inode *inode_removed(const struct store *s, uint64_t ino)
{
    struct inode *in;

    HASH_FIND(hh, s->removed, &ino, sizeof ino, in);
    return in;
}

void inode_let_go(struct store *s, struct inode *in)
{
    if (in->type == INODE_FILE && in->size <= REMOVED_BYTES_MAX)
        keep_removed(s, in);
    else
        inode_destroy(s, in);
}

void inode_remove(struct store *s, struct inode *in)
{
    struct value v = inode_value(in), none = {0};

    inode_begin(s, in);
    ttl_drop(s, in);
    fence_drop(s, in->ino);
    journal_inode_gone(s->journal, in);
    journal_chunks_gone(s->journal, &v, &none);
    if (in->xattrs != NULL)
        journal_chunk_gone(s->journal, in->xattrs->chunk);
    xattrs_free(in->xattrs); /* they go with its last name, whoever has it open */
    in->xattrs = NULL;
    if (in->type == INODE_DIRECTORY)
        in->c.dir = NULL;
    if ((in->flags & INODE_PINNED) == 0)
        inode_let_go(s, in);
    else if (s->events.on_held != NULL)
        s->events.on_held(s->events.arg, in->ino, in->size);
}

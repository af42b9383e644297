/* Directories and their names, living and dead. A dead entry stands for a name
 * that has history: it remembers the last version number, so that a new file of
 * that name continues it. Dead entries hang in one queue in the order of their
 * deaths, from whose head they are forgotten when there are too many. */
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

static int dentry_compare(const struct dentry *a, const struct dentry *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

/* The generated code compares pointers and colours in ways that -Wconversion dislikes. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
RB_GENERATE(dentry_tree, dentry, at.tree, dentry_compare)
#pragma GCC diagnostic pop

struct dentry_key {
    struct directory *dir;
    uint8_t name[KV_NAME_MAX];
};

struct directory *directory_find(const struct store *s, uint64_t history_id)
{
    struct directory *dir;

    HASH_FIND(hh, s->directories, &history_id, sizeof history_id, dir);
    return dir;
}

struct directory *directory_new(struct store *s, uint64_t history_id)
{
    struct directory *dir = calloc(1, sizeof *dir);

    if (dir == NULL)
        return NULL;
    dir->history_id = history_id;
    RB_INIT(&dir->living);
    LIST_INIT(&dir->dead);
    HASH_ADD(hh, s->directories, history_id, sizeof dir->history_id, dir);
    if (dir->hh.tbl == NULL) {
        free(dir);
        return NULL;
    }
    return dir;
}

void directory_release(struct store *s, struct directory *dir)
{
    if (dir->inode != NULL || dir->tomb != NULL || !RB_EMPTY(&dir->living) || !LIST_EMPTY(&dir->dead))
        return;
    HASH_DELETE(hh, s->directories, dir);
    free(dir);
}

struct dentry *dentry_find(const struct store *s, const struct directory *dir, const void *name, size_t len)
{
    unsigned hash;
    struct dentry_key key;
    struct dentry *d;

    if (len > KV_NAME_MAX)
        return NULL;
    key.dir = (struct directory *)dir;
    memcpy(key.name, name, len);
    HASH_VALUE(&key, sizeof key.dir + len, hash);
    HASH_FIND_BYHASHVALUE(hh, s->dentries[store_shard(hash)], &key, sizeof key.dir + len, hash, d);
    return d;
}

struct dentry *dentry_new(struct store *s, struct directory *dir, const void *name, size_t len)
{
    unsigned hash;
    struct dentry *d = calloc(1, offsetof(struct dentry, name) + len);

    if (d == NULL)
        return NULL;
    d->dir = dir;
    d->name_len = (uint8_t)len;
    memcpy(d->name, name, len);
    HASH_VALUE(&d->dir, sizeof d->dir + len, hash);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->dentries[store_shard(hash)], &d->dir, sizeof d->dir + len, hash, d);
    if (d->hh.tbl == NULL) {
        free(d);
        return NULL;
    }
    s->n_dentries++;
    return d;
}

void dentry_destroy(struct store *s, struct dentry *d)
{
    if ((d->flags & ENTRY_ASIDE) != 0)
        free(d->u.aside);
    HASH_DELETE(hh, s->dentries[store_shard(d->hh.hashv)], d);
    s->n_dentries--;
    free(d);
}

void dentry_row(const struct dentry *d, struct entry_row *row_out)
{
    *row_out = (struct entry_row){
        .directory = d->dir->history_id,
        .name = d->name,
        .name_len = d->name_len,
        .flags = d->flags,
        .number = d->number,
        .last_version = d->last_version,
        .history_digest = d->history_digest,
    };
    if (!dentry_is_dead(d))
        row_out->ino = d->u.inode->ino;
    if ((d->flags & ENTRY_PAST) != 0) {
        row_out->past = d->u.past->history_id;
        row_out->past_uid = d->u.past->last.uid;
        row_out->past_gid = d->u.past->last.gid;
        row_out->past_mode = d->u.past->last.mode;
    }
    if ((d->flags & ENTRY_ASIDE) != 0) {
        row_out->aside_revision = d->u.aside->revision;
        row_out->aside_ms = d->u.aside->ms;
        row_out->aside_digest = d->u.aside->digest;
    }
}

void dentry_begin(struct store *s, const struct dentry *d)
{
    struct entry_row row;

    dentry_row(d, &row);
    s->digest -= entry_row_digest(&row);
}

void dentry_end(struct store *s, struct dentry *d)
{
    struct entry_row row;

    dentry_row(d, &row);
    s->digest += entry_row_digest(&row);
    journal_entry(s->journal, d);
}

void dentry_forget(struct store *s, struct dentry *d)
{
    journal_entry_gone(s->journal, d);
    dentry_destroy(s, d);
}

uint64_t dentry_version(const struct dentry *d)
{
    if (d == d->u.inode->names)
        return d->u.inode->version;
    return dentry_own_version(d);
}

void dentry_attr(const struct dentry *d, struct attr *attr_out)
{
    inode_attr(d->u.inode, attr_out);
    attr_out->version = dentry_version(d);
}

/* The number of the name that is the first one now counts: who makes a name tells that
 * (history_next_version), here it is the next one's when the first goes. */
static void add_name(struct inode *in, struct dentry *d)
{
    struct dentry **at = &in->names;

    while (*at != NULL && (*at)->number < d->number)
        at = &(*at)->next_name;
    d->next_name = *at;
    *at = d;
    in->n_names++;
}

static void take_name(struct inode *in, struct dentry *d)
{
    struct dentry **at = &in->names;

    while (*at != d)
        at = &(*at)->next_name;
    *at = d->next_name;
    d->next_name = NULL;
    in->n_names--;
    if (at == &in->names && in->names != NULL)
        in->version = dentry_own_version(in->names);
}

void dentry_attach(struct store *s, struct dentry *d, struct inode *in)
{
    d->u.inode = in;
    add_name(in, d);
    RB_INSERT(dentry_tree, &d->dir->living, d);
    d->dir->n_living++;
    if (in->type == INODE_DIRECTORY)
        d->dir->n_directories++;
    s->keys++;
    if (in->n_names == 1)
        s->bytes += inode_bytes(in);
}

void dentry_detach(struct store *s, struct dentry *d)
{
    struct inode *in = d->u.inode;

    RB_REMOVE(dentry_tree, &d->dir->living, d);
    d->dir->n_living--;
    if (in->type == INODE_DIRECTORY)
        d->dir->n_directories--;
    s->keys--;
    take_name(in, d);
    if (in->n_names == 0)
        s->bytes -= inode_bytes(in);
    d->u.inode = NULL;
}

void dentry_bury(struct store *s, struct dentry *d)
{
    d->flags |= ENTRY_DEAD;
    TAILQ_INSERT_TAIL(&s->dead, d, at.dead.queue);
    LIST_INSERT_HEAD(&d->dir->dead, d, at.dead.peers);
    s->n_dead++;
}

void dentry_exhume(struct store *s, struct dentry *d)
{
    TAILQ_REMOVE(&s->dead, d, at.dead.queue);
    LIST_REMOVE(d, at.dead.peers);
    s->n_dead--;
    d->flags &= (uint8_t)~ENTRY_DEAD;
}

void directory_limit_dead(struct store *s)
{
    for (int n = 0; n < FORGET_MAX && s->n_dead > s->settings.number[SETTING_MAX_DEAD_NAMES]; n++) {
        struct dentry *d = TAILQ_FIRST(&s->dead);
        struct directory *dir = d->dir, *past = NULL;

        dentry_begin(s, d);
        if ((d->flags & ENTRY_PAST) != 0)
            past = d->u.past;
        journal_history_drop(s->journal, dir->history_id, d->name, d->name_len, s->applied);
        dentry_exhume(s, d);
        dentry_forget(s, d);
        if (past != NULL) {
            past->tomb = NULL;
            directory_release(s, past);
        }
        directory_release(s, dir);
    }
}

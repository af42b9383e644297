/* Locks: what can be asked of them, and loading them from state.db. */
#include <errno.h>
#include <string.h>

#include "kvnode/state/lock_internal.h"
#include "sync/wire/body.h"

int store_lock_test(const struct store *s, uint64_t session, uint64_t owner, uint64_t ino, uint8_t kind,
                    bool exclusive, uint64_t start, uint64_t end, struct lock_row *row_out)
{
    const struct session *ss = session_find(s, session);
    const struct locked_file *f = locked_file_find(s->locks, ino);
    const struct lock_who who = {.of = ss != NULL ? ss->locks : NULL, .owner = owner};
    const struct lock_range *range;
    const struct lock_holder *h;

    if (f == NULL)
        return KV_E_NOENT;
    h = lock_conflict(&f->sides[kind], &who, start, end, exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED, &range);
    if (h == NULL)
        return KV_E_NOENT;
    lock_holder_row(h, (size_t)(range - h->ranges.at), row_out);
    return KV_OK;
}

/* It has something locked there, or waits. */
static bool is_in(const struct locked_file *f, const struct session_locks *of)
{
    bool found = f->delegation != NULL && f->delegation->who.of == of;
    const struct lock_holder *h;
    const struct lock_wait *w;

    for (unsigned k = 0; k < LOCK_KINDS && !found; k++) {
        TAILQ_FOREACH (h, &f->sides[k].holders, in_side)
            found = found || h->who.of == of;
        TAILQ_FOREACH (w, &f->sides[k].waits, in_side)
            found = found || w->who.of == of;
    }
    return found;
}

static bool may_know_path(const struct store *s, const struct caller *who, const struct inode *in)
{
    return who == NULL || (store_reach(s, who, in->ino) == KV_OK &&
                           store_access(s, who, in->names->dir->inode->ino, 5) == KV_OK);
}

void store_held(const struct store *s, const struct caller *who, uint64_t ino, uint64_t session,
                struct held_answer *held_out, struct buffer *path)
{
    const struct locked_file *locked = locked_file_find(s->locks, ino);
    const struct fence_row *f = fence_find(s, ino);
    const struct session *ss = session_find(s, session);
    const struct inode *in = inode_live(s, ino);

    *held_out = (struct held_answer){0};
    if (f != NULL) {
        held_out->fence = f->revision;
        held_out->since_ns = f->wall_ns;
        held_out->exclusive = f->exclusive;
    }
    /* Of others nobody asks who they are. */
    if (ss != NULL && ss->locks != NULL && locked != NULL && is_in(locked, ss->locks))
        held_out->client = bytes_of(ss->client, ss->client_len);
    if (in == NULL || in->names == NULL || !may_know_path(s, who, in) ||
        store_history_path(s, in->names->dir->history_id, path) != KV_OK)
        return;
    if (path->len > 0)
        buffer_put_u8(path, '/');
    buffer_put_bytes(path, in->names->name, in->names->name_len);
    if (path->len <= KV_PATH_MAX)
        held_out->path = bytes_of(path->data, path->len);
}

static void emit_side(const struct lock_side *side, void *arg,
                      void (*emit)(void *arg, const struct lock_row *row))
{
    const struct lock_holder *h;
    const struct lock_wait *w;
    struct lock_row row;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        for (size_t i = 0; i < h->ranges.n; i++) {
            lock_holder_row(h, i, &row);
            emit(arg, &row);
        }
    }
    TAILQ_FOREACH (w, &side->waits, in_side) {
        lock_wait_row(w, &row);
        emit(arg, &row);
    }
}

static void emit_delegation(const struct lock_delegation *d, void *arg,
                            void (*emit)(void *arg, const struct lock_row *row))
{
    struct lock_row row;

    lock_delegation_row(d, &row);
    emit(arg, &row);
}

void store_locks(const struct store *s, uint64_t from_ino, void *arg,
                 bool (*next_file)(void *arg, uint64_t ino),
                 void (*emit)(void *arg, const struct lock_row *row))
{
    struct locked_files files = s->locks->files;
    struct locked_file *f = RB_NFIND(locked_files, &files, &(struct locked_file){.ino = from_ino});

    for (; f != NULL && next_file(arg, f->ino); f = RB_NEXT(locked_files, &files, f)) {
        if (f->delegation != NULL)
            emit_delegation(f->delegation, arg, emit);
        for (unsigned k = 0; k < LOCK_KINDS; k++)
            emit_side(&f->sides[k], arg, emit);
    }
}

static int load_range(struct store *s, struct locked_file *f, const struct lock_who *who,
                      const struct lock_row *row)
{
    enum lock_mode mode = row->exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED;
    struct lock_holder *h;

    if (lock_conflict(&f->sides[row->kind], who, row->start, row->end, mode, NULL) != NULL)
        return -EUCLEAN;
    h = lock_holder_get(f, row->kind, who);
    if (h == NULL)
        return -ENOMEM;
    if (h->who.pid != who->pid || h->who.node_len != who->node_len ||
        memcmp(h->who.node, who->node, sizeof who->node) != 0 ||
        lock_ranges_conflict(&h->ranges, row->start, row->end, LOCK_EXCLUSIVE) != NULL ||
        lock_ranges_after(&h->ranges, row->start, row->end, mode) != h->ranges.n + 1)
        return -EUCLEAN;
    if (lock_ranges_set(&h->ranges, row->start, row->end, mode) < 0)
        return -ENOMEM;
    lock_count(s, who->of, f, 1, 0);
    return 0;
}

static int load_wait(struct store *s, struct locked_file *f, const struct lock_who *who,
                     const struct lock_row *row)
{
    struct lock_wait *w = lock_wait_new(s, f, row->kind, who, row->wait);

    if (w == NULL)
        return -ENOMEM;
    w->start = row->start;
    w->end = row->end;
    w->mode = (row->exclusive & LOCK_ROW_EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED;
    w->tries = (row->exclusive & LOCK_ROW_TRIES) != 0;
    w->asks = (row->exclusive & LOCK_ROW_ASKS) != 0;
    w->ticket = row->ticket;
    return 0;
}

/* Nothing else is there yet but, perhaps, those who wait, of other sessions. */
static int load_delegation(struct store *s, struct locked_file *f, const struct lock_who *who,
                           const struct lock_row *row)
{
    if (f->delegation != NULL || f->n_ranges != 0 || row->owner != 0 || row->start != 0 ||
        row->end != LOCK_RANGE_END || row->exclusive != LOCK_ROW_EXCLUSIVE || row->wait != 0)
        return -EUCLEAN;
    return lock_delegation_new(s, f, who, row->ticket) != NULL ? 0 : -ENOMEM;
}

static int load_row(struct store *s, struct locked_file *f, const struct lock_who *who,
                    const struct lock_row *row)
{
    if (row->kind == LOCK_DELEGATED)
        return load_delegation(s, f, who, row);
    if (row->wait != 0)
        return load_wait(s, f, who, row);
    return f->delegation != NULL || row->exclusive > LOCK_ROW_EXCLUSIVE ? -EUCLEAN
                                                                        : load_range(s, f, who, row);
}

int lock_load(struct store *s, const struct lock_row *row)
{
    struct session *ss = session_find(s, row->session);
    struct lock_who who = {.owner = row->owner, .pid = row->pid, .node_len = (uint8_t)row->node_len};
    struct locked_file *f;

    if (ss == NULL || (row->wait == 0 && row->kind != LOCK_DELEGATED) != (row->ticket == 0))
        return -EUCLEAN;
    who.of = session_locks_get(s, ss);
    f = who.of != NULL ? locked_file_get(s->locks, row->ino) : NULL;
    if (f == NULL)
        return -ENOMEM;
    if (row->node_len > 0)
        memcpy(who.node, row->node, row->node_len);
    s->digest += lock_row_digest(row);
    return load_row(s, f, &who, row);
}

#include "tests/disk/lib/image.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct change_of_names {
    struct change_of_names *next;
    size_t n;
    struct image_naming namings[2];
};

struct image {
    uint64_t dice, next_number;
    struct image_inode *all, *root;
    struct change_of_names *names, **names_end; /* between kept_entries and now_entries, all directories */
};

/* A test's program: without memory there is no test. */
static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

static uint64_t roll(struct image *im, uint64_t n)
{
    im->dice ^= im->dice << 13;
    im->dice ^= im->dice >> 7;
    im->dice ^= im->dice << 17;
    return (im->dice >> 11) % n;
}

/* ---- bytes ---- */

static void bytes_resize(struct image_bytes *b, size_t len)
{
    if (len > b->cap) {
        b->cap = len > 2 * b->cap ? len : 2 * b->cap;
        b->data = must(realloc(b->data, b->cap));
    }
    if (len > b->len)
        memset(b->data + b->len, 0, len - b->len);
    b->len = len;
}

static void bytes_write(struct image_bytes *b, size_t at, const uint8_t *data, size_t len)
{
    if (len == 0)
        return;
    if (at + len > b->len)
        bytes_resize(b, at + len);
    memcpy(b->data + at, data, len);
}

static void bytes_free(struct image_bytes *b)
{
    free(b->data);
    *b = (struct image_bytes){0};
}

/* ---- names ---- */

static struct image_entry *entry_find(const struct image_entries *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->list[i].name, name) == 0)
            return &e->list[i];
    return NULL;
}

static void entry_set(struct image_entries *e, const char *name, struct image_inode *in)
{
    struct image_entry *at = entry_find(e, name);
    struct image_inode *before = at != NULL ? at->inode : NULL;

    if (in != NULL)
        image_ref(in, 1);
    if (at != NULL && in == NULL) {
        memmove(at, at + 1, (size_t)(e->list + e->n - at - 1) * sizeof *at);
        e->n--;
    } else if (at != NULL) {
        at->inode = in;
    } else if (in != NULL) {
        if (e->n == e->cap) {
            e->cap = e->cap > 0 ? 2 * e->cap : 8;
            e->list = must(realloc(e->list, e->cap * sizeof *e->list));
        }
        at = &e->list[e->n++];
        snprintf(at->name, sizeof at->name, "%s", name);
        at->inode = in;
    }
    if (before != NULL)
        image_unref(before, 1);
}

static void entries_clear(struct image_entries *e)
{
    while (e->n > 0)
        image_unref(e->list[--e->n].inode, 1);
}

static void names_keep(struct change_of_names *c)
{
    for (size_t i = 0; i < c->n; i++)
        entry_set(&c->namings[i].dir->kept_entries, c->namings[i].name, c->namings[i].inode);
}

static void names_free(struct change_of_names *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->namings[i].inode != NULL)
            image_unref(c->namings[i].inode, 1);
        image_unref(c->namings[i].dir, 1);
    }
    free(c);
}

/* ---- inodes ---- */

struct image *image_new(uint64_t seed)
{
    struct image *im = must(calloc(1, sizeof *im));

    im->dice = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    im->next_number = 1;
    im->names_end = &im->names;
    im->root = image_inode_new(im, S_IFDIR | 0700, 0, 0);
    return im;
}

struct image_inode *image_root(struct image *im)
{
    return im->root;
}

static uint64_t used_below(const struct image_inode *dir)
{
    uint64_t used = 0;

    for (size_t i = 0; i < dir->now_entries.n; i++) {
        const struct image_inode *in = dir->now_entries.list[i].inode;

        used += S_ISDIR(in->mode) ? used_below(in) : in->now.len;
    }
    return used;
}

uint64_t image_used(const struct image *im)
{
    return used_below(im->root);
}

struct image_inode *image_inode_new(struct image *im, mode_t mode, uid_t uid, gid_t gid)
{
    struct image_inode *in = must(calloc(1, sizeof *in));

    in->image = im;
    in->number = im->next_number++;
    in->refs = 1;
    in->mode = mode;
    in->uid = uid;
    in->gid = gid;
    clock_gettime(CLOCK_REALTIME, &in->mtime);
    in->ctime = in->mtime;
    in->changes_end = &in->changes;
    in->next = im->all;
    im->all = in;
    return in;
}

static void changes_clear(struct image_inode *in)
{
    struct image_change *c;

    while ((c = in->changes) != NULL) {
        in->changes = c->next;
        free(c->data);
        free(c);
    }
    in->changes_end = &in->changes;
}

void image_ref(struct image_inode *in, uint64_t n)
{
    in->refs += n;
}

void image_unref(struct image_inode *in, uint64_t n)
{
    struct image_inode **link = &in->image->all;

    assert(in->refs >= n);
    in->refs -= n;
    if (in->refs > 0)
        return;
    while (*link != in)
        link = &(*link)->next;
    *link = in->next;
    changes_clear(in);
    bytes_free(&in->now);
    bytes_free(&in->kept);
    entries_clear(&in->now_entries);
    entries_clear(&in->kept_entries);
    free(in->now_entries.list);
    free(in->kept_entries.list);
    free(in->target);
    free(in);
}

void image_free(struct image *im)
{
    struct change_of_names *c;

    while ((c = im->names) != NULL) {
        im->names = c->next;
        names_free(c);
    }
    image_unref(im->root, 1);
    while (im->all != NULL) /* still open somewhere */
        image_unref(im->all, im->all->refs);
    free(im);
}

/* ---- what programs do ---- */

struct image_inode *image_find(const struct image_inode *dir, const char *name)
{
    struct image_entry *e = entry_find(&dir->now_entries, name);

    return e != NULL ? e->inode : NULL;
}

void image_name(struct image *im, const struct image_naming *namings, size_t n)
{
    struct change_of_names *c = must(calloc(1, sizeof *c));

    c->n = n;
    for (size_t i = 0; i < n; i++) {
        c->namings[i] = namings[i];
        image_ref(namings[i].dir, 1);
        if (namings[i].inode != NULL) {
            image_ref(namings[i].inode, 1);
            snprintf(namings[i].inode->name, sizeof namings[i].inode->name, "%s", namings[i].name);
        }
    }
    for (size_t i = 0; i < n; i++) {
        entry_set(&namings[i].dir->now_entries, namings[i].name, namings[i].inode);
        clock_gettime(CLOCK_REALTIME, &namings[i].dir->mtime);
    }
    *im->names_end = c;
    im->names_end = &c->next;
}

static void note(struct image_inode *in, uint64_t offset, const void *data, size_t len)
{
    struct image_change *c = must(calloc(1, sizeof *c));

    c->offset = offset;
    c->len = len;
    if (data != NULL) {
        c->data = must(malloc(len > 0 ? len : 1));
        memcpy(c->data, data, len);
    }
    *in->changes_end = c;
    in->changes_end = &c->next;
    clock_gettime(CLOCK_REALTIME, &in->mtime);
}

void image_write(struct image_inode *in, uint64_t offset, const void *data, size_t len)
{
    note(in, offset, data, len);
    bytes_write(&in->now, offset, data, len);
}

void image_resize(struct image_inode *in, uint64_t len)
{
    note(in, len, NULL, 0);
    bytes_resize(&in->now, len);
}

/* ---- what reaches the disk ---- */

static void change_keep(struct image_inode *in, const struct image_change *c)
{
    if (c->data != NULL)
        bytes_write(&in->kept, c->offset, c->data, c->len);
    else
        bytes_resize(&in->kept, c->offset);
}

/* The changes of names in dir, and what came before them in the directories that
 * they share with others. */
static void sync_names(struct image *im, struct image_inode *dir)
{
    struct change_of_names *c, **link, **order;
    struct image_inode **dirs;
    size_t n = 0, n_dirs = 1, i, k, d;
    bool *wanted;

    for (c = im->names; c != NULL; c = c->next)
        n++;
    order = must(calloc(n + 1, sizeof(struct change_of_names *)));
    wanted = must(calloc(n + 1, sizeof *wanted));
    dirs = must(calloc(2 * n + 1, sizeof(struct image_inode *)));
    dirs[0] = dir;
    for (i = 0, c = im->names; c != NULL; c = c->next)
        order[i++] = c;
    for (i = n; i-- > 0;) {
        for (k = 0; k < order[i]->n; k++)
            for (d = 0; d < n_dirs; d++)
                wanted[i] = wanted[i] || order[i]->namings[k].dir == dirs[d];
        for (k = 0; wanted[i] && k < order[i]->n; k++)
            dirs[n_dirs++] = order[i]->namings[k].dir;
    }
    for (i = 0, link = &im->names; i < n; i++) {
        if (wanted[i]) {
            *link = order[i]->next;
            names_keep(order[i]);
            names_free(order[i]);
        } else {
            link = &order[i]->next;
        }
    }
    im->names_end = link;
    free(order);
    free(wanted);
    free(dirs);
}

void image_sync(struct image_inode *in)
{
    struct image_change *c;

    if (S_ISDIR(in->mode)) {
        sync_names(in->image, in);
        return;
    }
    for (c = in->changes; c != NULL; c = c->next)
        change_keep(in, c);
    changes_clear(in);
}

void image_sync_fails(struct image_inode *in)
{
    changes_clear(in);
}

void image_sync_all(struct image *im)
{
    struct change_of_names *c;
    struct image_inode *in;

    for (in = im->all; in != NULL; in = in->next)
        if (!S_ISDIR(in->mode))
            image_sync(in);
    while ((c = im->names) != NULL) {
        im->names = c->next;
        names_keep(c);
        names_free(c);
    }
    im->names_end = &im->names;
}

/* ---- the power cut ---- */

/* Some of a write's sectors. */
static uint64_t keep_sectors(struct image *im, struct image_inode *in, const struct image_change *c)
{
    uint64_t at = c->offset, end = c->offset + c->len, kept = 0;

    while (at < end) {
        uint64_t next = (at / IMAGE_SECTOR + 1) * IMAGE_SECTOR;

        next = next < end ? next : end;
        if (roll(im, 2) == 0) {
            bytes_write(&in->kept, at, c->data + (at - c->offset), next - at);
            kept = 1;
        }
        at = next;
    }
    return kept;
}

static uint64_t tear_file(struct image *im, struct image_inode *in)
{
    enum { NOTHING, ALL, UP_TO, SOME, WAYS } way = (unsigned)roll(im, WAYS);
    uint64_t n = 0, upto, i = 0, kept = 0;
    struct image_change *c;

    for (c = in->changes; c != NULL; c = c->next)
        n++;
    upto = n > 0 && way == UP_TO ? roll(im, n) : way == NOTHING ? 0 : n;
    for (c = in->changes; c != NULL && way != NOTHING; c = c->next, i++) {
        if (i > upto || (way == SOME && c->data == NULL && roll(im, 2) == 0))
            break;
        if (c->data != NULL && (i == upto || way == SOME)) {
            kept += keep_sectors(im, in, c);
        } else {
            change_keep(in, c);
            kept++;
        }
    }
    return kept;
}

static void forget_names(struct image *im, bool torn, uint64_t *forgotten, uint64_t *torn_kept)
{
    struct change_of_names *c;
    uint64_t n = 0, upto, i = 0;

    for (c = im->names; c != NULL; c = c->next)
        n++;
    upto = torn ? roll(im, n + 1) : 0;
    while ((c = im->names) != NULL) {
        if (i++ < upto) {
            names_keep(c);
            (*torn_kept)++;
        } else {
            (*forgotten)++;
        }
        im->names = c->next;
        names_free(c);
    }
    im->names_end = &im->names;
}

void image_cut(struct image *im, bool torn, uint64_t *forgotten, uint64_t *torn_kept)
{
    struct image_inode *in, *next;

    forget_names(im, torn, forgotten, torn_kept);
    for (in = im->all; in != NULL; in = in->next) {
        uint64_t n = 0, kept;
        struct image_change *c;

        image_ref(in, 1); /* all stay until the names are right again */
        if (S_ISDIR(in->mode))
            continue;
        for (c = in->changes; c != NULL; c = c->next)
            n++;
        kept = torn ? tear_file(im, in) : 0;
        *forgotten += n - kept;
        *torn_kept += kept;
        changes_clear(in);
        bytes_resize(&in->now, 0);
        bytes_write(&in->now, 0, in->kept.data, in->kept.len);
    }
    for (in = im->all; in != NULL; in = in->next) {
        if (!S_ISDIR(in->mode))
            continue;
        entries_clear(&in->now_entries);
        for (size_t i = 0; i < in->kept_entries.n; i++)
            entry_set(&in->now_entries, in->kept_entries.list[i].name, in->kept_entries.list[i].inode);
    }
    for (in = im->all; in != NULL; in = next) {
        next = in->next; /* is held as well, until its turn */
        image_unref(in, 1);
    }
}

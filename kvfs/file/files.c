#include "kvfs/file/files.h"

#include <stdlib.h>

#define STAGE_LIMIT ((size_t)64 * 1024 * 1024)

void files_init(struct files *files, struct core *core, struct cache *cache)
{
    const char *directory = getenv("TMPDIR");

    files->core = core;
    core->files = files;
    files->cache = cache;
    files->memory.limit = STAGE_LIMIT;
    files->memory.directory = directory != NULL && directory[0] == '/' ? directory : "/var/tmp";
    TAILQ_INIT(&files->list);
    TAILQ_INIT(&files->kept.list);
    reserve_init(&files->reserve);
}

void files_describe_wait(const struct request *r, struct request_wait *wait)
{
    struct files *files = r->core->files;
    const struct file *f = r->ino != 0 ? file_find(files, r->ino) : NULL;

    if (f != NULL && f->publication != NULL) {
        wait->on = f->publication;
        wait->part = f->part_acked;
        wait->n_parts = f->n_parts;
    }
    if (r->waiting == &files->reserve.waiting)
        wait->what = "room in the cluster";
    else if (wait->on == r)
        wait->what = f != NULL && f->queued ? "its turn to be published" : "the kernel or a publication";
}

static void put_file(struct cache *cache, struct inode *inode)
{
    file_put(cache->core->files, inode);
}

static void free_file(struct cache *cache, struct inode *inode)
{
    file_free(cache->core->files, inode);
}

static void on_dropped(struct cache *cache, struct inode *inode)
{
    request_wake_all(&inode->file->invalidated, 0);
}

const struct cache_owner files_cache_owner = {
    .put_file = put_file, .free_file = free_file, .on_dropped = on_dropped};

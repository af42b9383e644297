#include "kvfs/file/files.h"

#include <stdlib.h>

#define STAGE_LIMIT ((size_t)64 * 1024 * 1024)

void files_init(struct files *files, struct hub *hub, struct cache *cache)
{
    const char *directory = getenv("TMPDIR");

    files->hub = hub;
    hub->files = files;
    files->cache = cache;
    files->memory.limit = STAGE_LIMIT;
    files->memory.directory = directory != NULL && directory[0] == '/' ? directory : "/var/tmp";
    TAILQ_INIT(&files->list);
    TAILQ_INIT(&files->kept.list);
    room_init(&files->room);
    locks_init(&files->locks);
}

void files_describe_wait(const struct call *call, struct call_wait *wait)
{
    struct files *files = call->hub->files;
    const struct file *f = call->ino != 0 ? file_find(files, call->ino) : NULL;

    if (f != NULL && f->publication != NULL) {
        wait->on = f->publication;
        wait->part = f->part_acked;
        wait->n_parts = f->n_parts;
    }
    if (call->waiting == &files->room.waiting)
        wait->what = "room in the cluster";
    else if (wait->on == call)
        wait->what = f != NULL && f->queued ? "its turn to be published" : "the kernel or a publication";
}

static void put_file(struct cache *cache, struct kernel_inode *inode)
{
    file_put(cache->hub->files, inode);
}

static void free_file(struct cache *cache, struct kernel_inode *inode)
{
    file_free(cache->hub->files, inode);
}

static void on_dropped(struct cache *cache, struct kernel_inode *inode)
{
    call_wake_all(&inode->file->invalidated, 0);
}

static void on_touched(struct cache *cache, struct kernel_inode *inode)
{
    file_pin(cache->hub->files, inode);
}

static void on_all_touched(struct cache *cache)
{
    file_pin_all(cache->hub->files);
}

static bool is_open(const struct kernel_inode *inode)
{
    return inode->file->n_handles > 0;
}

const struct cache_owner files_cache_owner = {.put_file = put_file,
                                              .free_file = free_file,
                                              .on_touched = on_touched,
                                              .on_all_touched = on_all_touched,
                                              .is_open = is_open,
                                              .on_dropped = on_dropped};

/* Open files and what of them is not published: the part of a mount that this folder keeps (see
 * core.h). */
#ifndef KVFS_KVFS_FILE_FILES_H
#define KVFS_KVFS_FILE_FILES_H

#include "kvfs/cache/cache.h"
#include "kvfs/file/file.h"
#include "kvfs/file/publish.h"
#include "kvfs/file/reserve.h"
#include "kvfs/file/stage.h"

struct files {
    struct core *core;   /* borrowed */
    struct cache *cache; /* borrowed */
    struct stage_memory memory;
    struct file_keep kept;
    struct file_list list;  /* those with something staged or being published */
    unsigned n_lost;        /* files with file.lost */
    struct file *uploading; /* the one whose publication is in parts; one at a time */
    uint32_t uploaded_uid;  /* whose the last one is */
    struct reserve reserve;
};

/* What the cache asks of files. */
extern const struct cache_owner files_cache_owner;

/* In memory that is all zeros. What is in it goes with its inodes, cache_deinit(). */
void files_init(struct files *files, struct core *core, struct cache *cache);
/* What a request in a list of waiters waits for. */
void files_describe_wait(const struct request *r, struct request_wait *wait);

#endif

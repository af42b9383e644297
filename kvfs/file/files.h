/* Open files and what of them is not published: the part of a mount that this folder keeps (see
 * hub.h). */
#ifndef KVFS_KVFS_FILE_FILES_H
#define KVFS_KVFS_FILE_FILES_H

#include "kvfs/cache/cache.h"
#include "kvfs/file/file.h"
#include "kvfs/file/lock.h"
#include "kvfs/file/publish.h"
#include "kvfs/file/removed.h"
#include "kvfs/file/room.h"
#include "kvfs/file/stage.h"

struct files {
    struct hub *hub;     /* borrowed */
    struct cache *cache; /* borrowed */
    struct stage_memory memory;
    struct removed kept;
    struct file_list list;  /* those with something staged or being published */
    unsigned n_lost;        /* files with file.lost */
    unsigned n_lazy;        /* handles with handle.lazy */
    struct file *uploading; /* the one whose publication is in parts; one at a time */
    uint32_t uploaded_uid;  /* whose the last one is */
    struct room room;
    struct locks locks;
};

/* What the cache asks of files. */
extern const struct cache_owner files_cache_owner;

/* In memory that is all zeros. What is in it goes with its inodes, cache_deinit(). */
void files_init(struct files *files, struct hub *hub, struct cache *cache);
/* What a call in a list of waiters waits for. */
void files_describe_wait(const struct call *call, struct call_wait *wait);

#endif

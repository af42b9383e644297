/* What a change in the cluster means for the kernel's caches. */
#ifndef KVFS_KVFS_OPS_EVENT_H
#define KVFS_KVFS_OPS_EVENT_H

#include "sync/wire/message.h"

struct fs;

/* Handles one event. Node thread, in the order of the stream. */
void event_handle(struct fs *fs, const struct event *e);

#endif

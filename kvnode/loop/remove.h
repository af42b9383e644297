/* A file that is not needed any more: its name goes at once. What it takes on the disk is given back by
 * a worker, as that takes ten milliseconds for some hundred MiB. */
#ifndef KVFS_KVNODE_LOOP_REMOVE_H
#define KVFS_KVNODE_LOOP_REMOVE_H

#include <uv.h>

void remove_file_later(uv_loop_t *loop, const char *path);

#endif

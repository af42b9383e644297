/* How malloc(3) has to behave in a node, whose loop may not stand still. Once, at the start. */
#ifndef KVFS_KVNODE_LOOP_TURN_MALLOC_H
#define KVFS_KVNODE_LOOP_TURN_MALLOC_H

#include <malloc.h>

/* Large buffers have mappings of their own, so that growing one moves pages, not bytes
 * (copying 16 MiB into new pages takes 18 ms); and a heap that shrinks is not given
 * back to the kernel at once, by whoever frees the last piece. */
static inline void turn_tune_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, 512 * 1024);
    mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
}

#endif

/* All that is below a key, it included: directories before what is in them. */
#ifndef KVFS_KVNODE_ADMIN_WALK_H
#define KVFS_KVNODE_ADMIN_WALK_H

#include "kvnode/admin/request.h"

/* entry: for each; the key without slashes around it (the root has none and is not told). Another value than
 * 0 ends the walk. It may ask the node. 0, KV_E_NOENT, KV_E_*, -errno; directories that the caller may not
 * list, or that go meanwhile, are passed over. */
int walk(struct request_link *l, const char *key,
         int (*entry)(void *arg, const char *key, const struct attr *attr), void *arg);

#endif

/* Whole values, as they were at one moment. */
#ifndef KVFS_KVNODE_ADMIN_VALUE_H
#define KVFS_KVNODE_ADMIN_VALUE_H

#include "kvnode/admin/request.h"

struct value {
    struct buffer data; /* the owner calls buffer_deinit() */
    uint64_t version, revision;
    uint64_t ino; /* of the current one */
};

/* The current value of a key. 0, KV_E_*, -errno. */
int fetch_value(struct request_link *l, const char *key, bool local, struct value *v);
/* The value of an earlier version; v->data is empty before. */
int fetch_version(struct request_link *l, const char *key, uint64_t version, struct value *v);

#endif

/* What a node says about its cluster (STATUS), read once for several verbs. */
#ifndef KVFS_KVNODE_ADMIN_CLUSTER_H
#define KVFS_KVNODE_ADMIN_CLUSTER_H

#include <jansson.h>

#include "kvnode/admin/request.h"

/* The node's status: a new object in *status_out, or NULL. 0, KV_E_*, -errno. */
int cluster_status(struct request_link *l, json_t **status_out);
/* The cluster's settings, likewise. */
int cluster_settings(struct request_link *l, json_t **settings_out);
/* ADMIN: takes over the command object; *answer_out as above (may be NULL). */
int cluster_admin(struct request_link *l, json_t *command, json_t **answer_out);
/* admin_fail_code() for a request on l. Where the cluster cannot write, the node
 * is asked which members it misses. */
int cluster_fail(struct request_link *l, const char *subject, int code, bool written);
/* admin_fail_partly(), likewise. */
int cluster_fail_partly(struct request_link *l, const char *subject, int code, uint64_t removed);
/* A value that is longer than value_limit. EXIT_REFUSED. */
int cluster_fail_long(const struct admin *a, const char *subject, uint64_t limit);
/* "The cluster works. One node may fail." */
void cluster_sentence(const json_t *status, char *out, size_t size);
/* "One node may fail." alone. */
void cluster_tolerance(const json_t *status, char *out, size_t size);
/* A member's string field, or "". */
const char *cluster_text(const json_t *object, const char *name);
json_int_t cluster_number(const json_t *object, const char *name);

#endif

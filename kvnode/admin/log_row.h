/* A row of the operation log as log and watch show it. */
#ifndef KVFS_KVNODE_ADMIN_LOG_ROW_H
#define KVFS_KVNODE_ADMIN_LOG_ROW_H

#include "kvnode/admin/admin.h"
#include "kvnode/admin/format.h"

void log_row_print(const struct admin *a, const struct log_row *r);
json_t *log_row_json(const struct log_row *r);
/* "set", "mkdir", … */
const char *log_row_op(const struct log_row *r);

#endif

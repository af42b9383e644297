/* FUSE_STATX (Linux 6.6), which libfuse 3.14 does not know: how the kernel asks for
 * the time of birth. Taken out of the stream before libfuse sees it, and answered
 * past libfuse. An answer of ENOSYS would turn it off for the whole mount. */
#ifndef KVFS_KVFS_LINK_STATX_H
#define KVFS_KVFS_LINK_STATX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/attr.h"

struct hub;
struct call;

/* What answers it, as GETATTR of that node; under the lock. */
typedef void statx_start_fn(struct call *call, uint64_t node);
/* Whether the message is one; then start answers it. Worker thread; takes the lock. */
bool statx_take(struct hub *hub, const void *message, size_t len, statx_start_fn *start);
/* Answers call->statx. Does not end the call. */
void statx_reply(const struct call *call, const struct attr *attr, double timeout);
void statx_reply_error(const struct call *call, int err);

#endif

/* Tokens of places in the stream of operations: `0-123-00f3a1…`, revision and cluster. They are what watch
 * and GET /v1/events give, and go on from; for others they are opaque. A revision alone, `0-123`, is one of
 * no cluster in particular. */
#ifndef KVFS_SYNC_WIRE_TOKEN_H
#define KVFS_SYNC_WIRE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLACE_TOKEN_SIZE 48 /* with its NUL */

void place_token_format(uint64_t cluster, uint64_t revision, char out[PLACE_TOKEN_SIZE]);
/* cluster_out: 0: it names none, or is none. False: it is no token. */
bool place_token_parse(const char *text, size_t len, uint64_t *cluster_out, uint64_t *revision_out);

#endif

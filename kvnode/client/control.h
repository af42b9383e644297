/* Answers in JSON for people and scripts: STATUS, SETTINGS, ADMIN. Loop thread only. */
#ifndef KVFS_KVNODE_CLIENT_CONTROL_H
#define KVFS_KVNODE_CLIENT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node;

/* type: a MESSAGE_* of the above. KV_OK with the JSON text, or a code with a
 * detail, in *text_out (owned by the caller; may be NULL). */
int control_text(struct node *n, bool trusted, uint8_t type, const void *body, size_t len, char **text_out);

#endif

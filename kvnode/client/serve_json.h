/* Answers in JSON for people and scripts: STATUS, SETTINGS, ADMIN. Loop thread only. */
#ifndef KVFS_KVNODE_CLIENT_SERVE_JSON_H
#define KVFS_KVNODE_CLIENT_SERVE_JSON_H

#include <stdbool.h>
#include <stdint.h>

struct serve;
struct serve_owner;
union request_body;

/* type: a MESSAGE_* of the above. KV_OK with the JSON text, or a code with a
 * detail, in *text_out (owned by the caller; may be NULL). */
int serve_json(const struct serve_owner *owner, const struct serve *serve, bool trusted, uint8_t type,
               const union request_body *in, char **text_out);

#endif

/* Times to live. That of a file says when it goes, counted from its last write; that of a directory is given
 * to what is written directly in it, and takes nothing away by itself. They count time in which the cluster
 * could be written to (command.h, elapsed_ms). People see and change them as an extended attribute:
 *
 *   user.kv.ttl      "90s", "10m", "36h", "7d", "250ms", or "90" (seconds); the shortest form of these
 *   user.kv.expires  of a file, to read only: when that will be, if the cluster can be written to until then:
 *                    "2026-01-31T12:00:00Z" */
#ifndef KVFS_SYNC_WIRE_TTL_H
#define KVFS_SYNC_WIRE_TTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* They belong to level 2 (feature.h). */
#define KV_TTL_MIN_MS 1
#define KV_TTL_MAX_MS (UINT64_C(3650) * 86400 * 1000) /* ten years */

#define XATTR_TTL "user.kv.ttl"
#define XATTR_EXPIRES "user.kv.expires"

bool xattr_is_ttl(const void *name, size_t len);
bool xattr_is_expires(const void *name, size_t len);

/* False: not a time as above, or out of these bounds. */
bool ttl_parse(const void *text, size_t len, uint64_t *ms_out);

#define TTL_TEXT_MAX 24
/* The length of what was written, with a NUL behind it. */
size_t ttl_format(uint64_t ms, char text[TTL_TEXT_MAX]);
/* The same of the time of day, in ms since 1970, at which one is over: cut to seconds, UTC. */
size_t ttl_format_end(uint64_t ms, char text[TTL_TEXT_MAX]);

#endif

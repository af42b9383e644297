/* How things are shown to people and to programs. */
#ifndef KVFS_KVNODE_ADMIN_FORMAT_H
#define KVFS_KVNODE_ADMIN_FORMAT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sync/wire/message.h"

/* "2026-11-20 10:01:31", local time. */
void format_time(int64_t ns, char *out, size_t size);
/* "2026-11-20T09:01:31.123Z". */
void format_time_utc(int64_t ns, char *out, size_t size);
/* "5 B", "1.5 KiB". */
void format_size(uint64_t bytes, char *out, size_t size);
/* "0-18231": an opaque token. */
void format_revision(uint64_t revision, char *out, size_t size);
/* "root@n1"; a number where the uid has no name here. */
void format_author(uint32_t uid, const char *node, char *out, size_t size);
/* The same of a row, with the label that it bears: "root@n1(deploy)". */
void format_row_author(const struct version_row *row, char *out, size_t size);
/* Account and group names, or numbers. */
void format_user(uint32_t uid, char *out, size_t size);
void format_group(uint32_t gid, char *out, size_t size);
/* "-rw-r--r--". */
/* "file", "directory", "symlink", "fifo", "socket". */
const char *format_type(uint8_t type);
void format_mode(uint8_t type, uint16_t mode, char out[static 11]);
/* "0.4 s", "35 s", "12 min". */
void format_duration(uint64_t ms, char *out, size_t size);

/* A name or key, which may hold any byte. quote: one that a terminal would act on
 * (control characters, bytes that are no UTF-8), or that could be taken for a quoted
 * one, is written as $'a\nb', which shells read back; else the bytes as they are. */
void format_name(FILE *out, const void *name, size_t len, bool quote);

/* Takes over the object, prints it on one line and frees it. */
void json_line(json_t *object);
/* Sets name to the text, or name_base64 to its base64 when it is not UTF-8. */
void json_set_bytes(json_t *object, const char *name, const void *data, size_t len);
json_t *json_version_row(const struct version_row *row);

#endif

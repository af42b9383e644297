/* Names below DIR/.versions/KEY. Pure. */
#ifndef KVFS_KVFS_VIRTUAL_VERSION_NAME_H
#define KVFS_KVFS_VIRTUAL_VERSION_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum version_kind {
    VERSION_NUMBER,  /* "3": content number 3 */
    VERSION_DELETED, /* "3.deleted": the deletion that ended number 3 */
    VERSION_BACK,    /* "-1": that many contents before the newest */
    VERSION_TIME,    /* "@2026-01-31T12:00:00Z", "@2026-01-31", "@1769860800": what was current then */
};

struct version_name {
    enum version_kind kind;
    uint64_t number;  /* NUMBER, DELETED, BACK */
    uint64_t wall_ns; /* TIME */
};

/* False: no such name can exist. Numbers are decimal without leading zeros; times are UTC. */
bool version_name_parse(const char *name, struct version_name *out);
#define VERSION_NAME_MAX 40
/* "3" or "3.deleted" into out[VERSION_NAME_MAX]. */
void version_name_format(uint64_t number, bool deleted, char *out);

#endif

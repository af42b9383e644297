/* Who is in the cluster: the contents of an ENTRY_CHANGE.
 *
 * The bytes are those that the Raft core decodes by itself, without checking
 * bounds, so every blob that a disk or a peer brought passes
 * configuration_decode() before the core sees it:
 *
 *   u8 1 | u64 n | n times: u64 id, address, NUL, u8 role | zeros up to 8 n
 *
 * with little-endian integers. Any thread. */
#ifndef KVFS_SYNC_RAFT_ENGINE_CONFIGURATION_H
#define KVFS_SYNC_RAFT_ENGINE_CONFIGURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/raft/engine/entry.h"

#define CONFIGURATION_MAX_SERVERS 32  /* 7 voters, 16 standbys, and room */
#define CONFIGURATION_MAX_ADDRESS 255 /* bytes, without the NUL */

enum server_role {
    SERVER_STANDBY = 0, /* gets the log, has no vote */
    SERVER_VOTER = 1,
};

struct server {
    uint64_t id; /* > 0; never used again for another server or a wiped disk */
    char address[CONFIGURATION_MAX_ADDRESS + 1];
    enum server_role role;
};

struct configuration {
    struct server servers[CONFIGURATION_MAX_SERVERS];
    unsigned n;
};

/* KV_E_INVAL: id 0 or empty or too long address; KV_E_EXIST: id or address
 * is taken; KV_E_BUSY: full. Copies the address. */
int configuration_add(struct configuration *c, uint64_t id, const char *address, enum server_role role);
/* KV_E_NOENT: no such id. */
int configuration_remove(struct configuration *c, uint64_t id);
/* NULL: no such id. Borrowed from c. */
struct server *configuration_find(const struct configuration *c, uint64_t id);
unsigned configuration_voters(const struct configuration *c);

/* An ENTRY_CHANGE entry of term 0 with one reference. NULL: out of memory or n == 0. */
struct entry *configuration_encode(const struct configuration *c);
/* 0, or KV_E_PROTOCOL: not such a blob, or one that breaks a limit above. */
int configuration_decode(const void *data, size_t len, struct configuration *out);

#endif

/* What this node can say of every member of the group: from the engine, from what
 * the peers say of themselves (health.h), and from whether they can be heard. Loop
 * thread only. */
#ifndef KVFS_KVNODE_PEER_MEMBERS_H
#define KVFS_KVNODE_PEER_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/health.h"

struct self;

#define MEMBERS_MAX (HEALTH_LINKS_MAX + 1)

/* The first that holds, from the worst. */
enum member_state {
    MEMBER_UNREACHABLE, /* no link */
    MEMBER_SILENT,      /* a link, but nothing has come for PEER_FRESH_MS */
    MEMBER_RIVALS,      /* its peers belong to another cluster */
    MEMBER_GONE_BACK,
    MEMBER_WAITING,
    MEMBER_NO_STATE,
    MEMBER_DISK_FULL,
    MEMBER_DAMAGED,
    MEMBER_STOPPING,
    MEMBER_STUCK,  /* behind, and does not get on */
    MEMBER_BEHIND, /* for a while */
    MEMBER_CLOCK_OFF,
    MEMBER_HEALTHY
};

struct member {
    uint64_t id;
    const char *name; /* borrowed from the configuration */
    char address[300];
    char error[160]; /* why there is no link, or "" */
    bool self, voter, known /* its health has been told once */;
    enum member_state state;
    uint8_t role; /* enum peer_role; of a node that is heard only */
    uint64_t applied, digest_index, digest;
    uint64_t behind;       /* commands that it has not applied of those known to be committed */
    uint64_t lag_ms;       /* for how long it has not had all; 0: it has */
    uint64_t last_seen_ms; /* clock_boot_ms(), 0: never */
    struct health health;
};

struct members {
    struct member all[MEMBERS_MAX];
    size_t n;
    unsigned voters, usable; /* usable: voters that can take a write, as far as this node knows */
    bool writable;           /* a majority of them reach each other through one node, and the leader leads */
    unsigned tolerated;      /* any so many of them may fail, and it is still so */
    uint64_t leader;         /* whom this node follows; 0: nobody */
    uint64_t elsewhere;      /* without one: whom another member follows; 0: nobody */
    uint64_t leaderless_ms;  /* for how long this node has known no leader */
};

void members_look(const struct self *self, struct members *out);
/* The highest feature level that all members know, who are all heard; 0: one is not. */
uint64_t members_level(const struct members *all);
/* "healthy", "disk full", … */
const char *members_state_text(enum member_state state);
/* It is a voter that can take a write. */
bool members_usable(const struct member *m);
/* Whether a says that it hears b, or is not known to say anything. */
bool members_hears(const struct member *a, uint64_t b);

/* How many of the n (up to 32) nodes may fail, whichever they are, so that one of the
 * others still reaches a majority, itself included, of which none fails; -1: not even
 * now. reach[i]: bits of those that node i reaches; usable: bits of those that count. */
int members_tolerated(const uint32_t *reach, unsigned n, uint32_t usable, unsigned majority);

#endif

/* What the clients of one uid take from this node, all their connections together,
 * and how much of it one may take. Root and the node's own user, whom the node
 * trusts, have the bounds for all only; the others together leave a part to them.
 * What a mount of root's asks for in somebody's name is that one's: writes, open inodes
 * and what these keep (of an inode that several have open there, the first one's).
 *
 *   connections            480 of 512 for others, 240 for one of them
 *   requests under way     16,384, answers of 64 MiB: beyond it nothing more is read
 *   writes under way       49,152 with 192 MiB for others, 16,384 with 64 MiB for one;
 *                          61,440 with 240 MiB for all, the rest is the node's own
 *   open inodes            786,432 for others, 65,536 for one
 *   removed files held     256 MiB for others, 64 MiB for one, max_bytes for each whom
 *                          the node trusts: beyond it those removed first are let go
 *
 * What the cluster as a whole has a bound for is in store_session.c and
 * store_upload.c. Loop thread only. */
#ifndef KVFS_KVNODE_CLIENT_CLIENT_USER_H
#define KVFS_KVNODE_CLIENT_CLIENT_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sync/base/hash.h"

#define CLIENTS_MAX 512

struct store;

/* An inode that a client holds open; pinned in the store. */
struct open_inode {
    uint64_t ino;
    unsigned count;
    unsigned access;              /* OPEN_READ | OPEN_WRITE */
    struct client_user *user;     /* a reference: whose it is */
    uint64_t held;                /* bytes that it keeps since it was removed, 0: it has a name */
    TAILQ_ENTRY(open_inode) link; /* in client_user.held, if held > 0 */
    UT_hash_handle hh;
};

struct client_usage {
    unsigned connections, requests, writes, opens;
    size_t promised, write_bytes;
    uint64_t held_bytes;
};

struct client_user {
    UT_hash_handle hh;
    uint32_t uid;
    bool trusted;
    unsigned refs;
    struct client_usage now;
    TAILQ_HEAD(, open_inode) held; /* what was removed first comes first */
    struct client_users *all;      /* borrowed */
};

struct client_users {
    struct client_user *by_uid;
    struct client_usage others, total; /* others: all who are not trusted */
};

/* Finds or makes the user and counts one connection. NULL: out of memory. */
struct client_user *client_user_enter(struct client_users *all, uint32_t uid, bool trusted);
/* The connection has gone, and all its requests and inodes. */
void client_user_leave(struct client_user *u);
/* A reference to him in whose name something is asked for on a connection of u: the user
 * with that uid if u may speak for others, else u. */
struct client_user *client_user_as(struct client_user *u, uint32_t uid);
void client_user_put(struct client_user *u);

/* Why he may not have one more (a sentence), or NULL. */
const char *client_user_refuses_connection(const struct client_users *all, uint32_t uid, bool trusted);
const char *client_user_refuses_write(const struct client_user *u, size_t len);
const char *client_user_refuses_open(const struct client_user *u);
/* So much is under way that no more requests of his are to be read. */
bool client_user_is_busy(const struct client_user *u);

void client_user_request(struct client_user *u, int n, size_t promised); /* n: 1 begins, -1 ends */
void client_user_write(struct client_user *u, int n, size_t len);
void client_user_open(struct client_user *u, int n);
/* The inode has lost its last name and keeps so many bytes; and is let go of. */
void client_user_hold(struct client_user *u, struct open_inode *o, uint64_t bytes);
void client_user_unhold(struct client_user *u, struct open_inode *o);
/* Lets go of what is over the bounds: reading it gives KV_E_STALE from then on.
 * max_bytes: the cluster's setting. */
void client_users_release(struct client_users *all, struct store *store, uint64_t max_bytes);

#endif

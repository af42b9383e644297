#include "kvnode/client/client_user.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvnode/state/store.h"
#include "sync/base/log.h"

#define MIB (1024UL * 1024)

#define CONNECTIONS_OTHERS 480
#define CONNECTIONS_USER 240
#define REQUESTS_USER 16384
#define PROMISED_USER (64 * MIB)
#define WRITES_CLIENTS 61440
#define WRITES_OTHERS 49152
#define WRITES_USER 16384
#define WRITE_BYTES_CLIENTS (240 * MIB)
#define WRITE_BYTES_OTHERS (192 * MIB)
#define WRITE_BYTES_USER (64 * MIB)
#define OPENS_OTHERS 786432
#define OPENS_USER 65536
#define HELD_OTHERS (256 * MIB)
#define HELD_USER (64 * MIB)
/* A removed file takes more than its bytes. */
#define HELD_COST 1024

static struct client_user *find(const struct client_users *all, uint32_t uid)
{
    struct client_user *u;

    HASH_FIND(hh, all->by_uid, &uid, sizeof uid, u);
    return u;
}

static void add(struct client_usage *to, const struct client_usage *what)
{
    to->connections += what->connections;
    to->requests += what->requests;
    to->writes += what->writes;
    to->opens += what->opens;
    to->promised += what->promised;
    to->write_bytes += what->write_bytes;
    to->held_bytes += what->held_bytes;
}

/* Adds to all sums; a fall is a number that wraps around. */
static void count(struct client_user *u, struct client_usage what)
{
    add(&u->now, &what);
    add(&u->all->total, &what);
    if (!u->trusted)
        add(&u->all->others, &what);
}

static struct client_user *get(struct client_users *all, uint32_t uid, bool trusted)
{
    struct client_user *u = find(all, uid);

    if (u == NULL) {
        u = calloc(1, sizeof *u);
        if (u == NULL)
            return NULL;
        u->uid = uid;
        u->trusted = trusted;
        u->all = all;
        TAILQ_INIT(&u->held);
        HASH_ADD(hh, all->by_uid, uid, sizeof u->uid, u);
        if (!HASH_ADDED(hh, u)) {
            free(u);
            return NULL;
        }
    }
    u->refs++;
    return u;
}

struct client_user *client_user_enter(struct client_users *all, uint32_t uid, bool trusted)
{
    struct client_user *u = get(all, uid, trusted);

    if (u != NULL)
        count(u, (struct client_usage){.connections = 1});
    return u;
}

void client_user_leave(struct client_user *u)
{
    count(u, (struct client_usage){.connections = -1u});
    client_user_put(u);
}

struct client_user *client_user_as(struct client_user *u, uint32_t uid)
{
    struct client_user *other = NULL;

    if (u->trusted && uid != u->uid)
        other = get(u->all, uid, uid == 0 || uid == geteuid());
    if (other != NULL)
        return other;
    u->refs++;
    return u;
}

void client_user_put(struct client_user *u)
{
    if (--u->refs > 0)
        return;
    HASH_DELETE(hh, u->all->by_uid, u);
    free(u);
}

const char *client_user_refuses_connection(const struct client_users *all, uint32_t uid, bool trusted)
{
    const struct client_user *u = find(all, uid);

    if (all->total.connections >= CLIENTS_MAX)
        return "this node has as many clients as it may have (512)";
    if (trusted)
        return NULL;
    if (u != NULL && u->now.connections >= CONNECTIONS_USER)
        return "this user has as many connections to this node as one may have (240)";
    if (all->others.connections >= CONNECTIONS_OTHERS)
        return "this node's other connections are kept for root (480 of 512 are taken)";
    return NULL;
}

const char *client_user_refuses_write(const struct client_user *u, size_t len)
{
    if (u->all->total.writes >= WRITES_CLIENTS || u->all->total.write_bytes + len > WRITE_BYTES_CLIENTS)
        return "this node has as many writes of clients under way as it may have; nothing was written";
    if (u->trusted)
        return NULL;
    if (u->now.writes >= WRITES_USER || u->now.write_bytes + len > WRITE_BYTES_USER)
        return "this user has as many writes under way as one may have; nothing was written";
    if (u->all->others.writes >= WRITES_OTHERS || u->all->others.write_bytes + len > WRITE_BYTES_OTHERS)
        return "the room for more writes under way is kept for root; nothing was written";
    return NULL;
}

const char *client_user_refuses_open(const struct client_user *u)
{
    if (u->trusted)
        return NULL;
    if (u->now.opens >= OPENS_USER)
        return "this user holds as many files open on this node as one may (65,536)";
    if (u->all->others.opens >= OPENS_OTHERS)
        return "the room for more open files is kept for root";
    return NULL;
}

bool client_user_is_busy(const struct client_user *u)
{
    return !u->trusted && (u->now.requests >= REQUESTS_USER || u->now.promised >= PROMISED_USER);
}

void client_user_request(struct client_user *u, int n, size_t promised)
{
    count(u, (struct client_usage){.requests = (unsigned)n, .promised = n > 0 ? promised : -promised});
}

void client_user_write(struct client_user *u, int n, size_t len)
{
    count(u, (struct client_usage){.writes = (unsigned)n, .write_bytes = n > 0 ? len : -len});
}

void client_user_open(struct client_user *u, int n)
{
    count(u, (struct client_usage){.opens = (unsigned)n});
}

void client_user_hold(struct client_user *u, struct open_inode *o, uint64_t bytes)
{
    if (o->held > 0)
        return;
    o->held = bytes + HELD_COST;
    TAILQ_INSERT_TAIL(&u->held, o, link);
    count(u, (struct client_usage){.held_bytes = o->held});
}

void client_user_unhold(struct client_user *u, struct open_inode *o)
{
    if (o->held == 0)
        return;
    TAILQ_REMOVE(&u->held, o, link);
    count(u, (struct client_usage){.held_bytes = -o->held});
    o->held = 0;
}

static void release_oldest(struct client_user *u, struct store *store)
{
    struct open_inode *o = TAILQ_FIRST(&u->held);

    log_warn("user %" PRIu32 " holds more removed files open than he may: inode %" PRIu64 " (%" PRIu64
             " bytes) is let go of, reading it fails from now on",
             u->uid, o->ino, o->held - HELD_COST);
    client_user_unhold(u, o);
    for (; o->count > 0; o->count--)
        store_unpin_drop(store, o->ino);
}

void client_users_release(struct client_users *all, struct store *store, uint64_t max_bytes)
{
    struct client_user *u, *next;

    HASH_ITER(hh, all->by_uid, u, next)
    {
        while (u->now.held_bytes > (u->trusted ? max_bytes : HELD_USER) && !TAILQ_EMPTY(&u->held))
            release_oldest(u, store);
    }
    while (all->others.held_bytes > HELD_OTHERS) {
        struct client_user *most = NULL;

        HASH_ITER(hh, all->by_uid, u, next)
        {
            if (!u->trusted && (most == NULL || u->now.held_bytes > most->now.held_bytes))
                most = u;
        }
        release_oldest(most, store);
    }
}

/* The two sockets, and who may connect: the unix socket NAME.http beside the node's own, with its mode and
 * group, and a TCP one. What is not accepted hears why, in one write(2). */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define ACCEPTS_PER_TURN 32
#define LOOKUPS_MAX 64
#define LOOKUPS_SHARE 8
#define SAY_EVERY_MS 1000
#define UNREAD_READS 16 /* of a request that is refused unread; whoever goes on sending is cut off */
#define LISTEN_AGAIN_MS 1000
#define UID_NOBODY 65534 /* whose share those have of whom nobody knows who they are */

struct web_user *web_user_enter(struct web *w, uint32_t uid)
{
    struct web_user *u;

    HASH_FIND(hh, w->users, &uid, sizeof uid, u);
    if (u == NULL) {
        u = calloc(1, sizeof *u);
        if (u == NULL)
            return NULL;
        u->uid = uid;
        u->trusted = uid == 0 || uid == geteuid();
        HASH_ADD(hh, w->users, uid, sizeof u->uid, u);
        if (!HASH_ADDED(hh, u)) {
            free(u);
            return NULL;
        }
    }
    u->connections++;
    return u;
}

void web_user_leave(struct web *w, struct web_user *u)
{
    if (--u->connections > 0)
        return;
    HASH_DEL(w->users, u);
    free(u);
}

static void refuse(struct web *w, int fd, unsigned status, const char *reason, const char *why)
{
    char text[600], body[300], unread[4096];
    unsigned i;
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}\n", why);
    uint64_t now = clock_boot_ms();

    n = snprintf(text, sizeof text,
                 "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\n%sConnection: close\r\nContent-Length: "
                 "%d\r\n\r\n%s",
                 status, reason, status == 503 ? "Retry-After: 1\r\n" : "", n, body);
    (void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* Without this, closing with its request unread would reset the connection and take the answer with it.
     */
    shutdown(fd, SHUT_WR);
    for (i = 0; i < UNREAD_READS && recv(fd, unread, sizeof unread, MSG_DONTWAIT) > 0; i++)
        ;
    close(fd);
    if (now < w->say_ms)
        return;
    log_warn("a client was refused over HTTP: %s", why);
    w->say_ms = now + SAY_EVERY_MS;
}

/* Whether the modes of the node's sockets would let him in: TCP is no way around them. */
static bool may_enter(const struct web *w, const struct web_conn *c)
{
    const struct config *config = w->owner.self->config;
    struct stat st;
    uint32_t i;

    if (!c->tcp || c->needs_token || c->user->trusted || (config->socket_mode & 0006) == 0006)
        return true;
    if ((config->socket_mode & 0060) != 0060 || stat(config->http_socket, &st) != 0)
        return false;
    if (c->who.gid == st.st_gid)
        return true;
    for (i = 0; i < c->who.n_groups; i++)
        if (c->who.groups[i] == st.st_gid)
            return true;
    return false;
}

/* The descriptor and the connection are taken over. */
static void enter(struct web *w, struct web_conn *c)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    int fd = c->fd;

    c->user = web_user_enter(w, c->who.uid);
    if (c->user == NULL) {
        close(fd);
        free(c);
        return;
    }
    if (w->n_connections >= WEB_CONNECTIONS_MAX ||
        (!c->user->trusted && c->user->connections > WEB_CONNECTIONS_SHARE)) {
        web_user_leave(w, c->user);
        refuse(w, fd, 503, "Service Unavailable",
               w->n_connections >= WEB_CONNECTIONS_MAX
                   ? "this node has too many HTTP connections"
                   : "this user has too many HTTP connections to this node");
        free(c);
        return;
    }
    if (!may_enter(w, c) && access_by_token(w)) {
        c->needs_token = true; /* such as a reverse proxy, which hands on those of others */
    } else if (!may_enter(w, c)) {
        web_user_leave(w, c->user);
        refuse(
            w, fd, 403, "Forbidden",
            "this user may not connect to the node: see socket_mode and socket_group in its configuration");
        free(c);
        return;
    }
    LIST_INSERT_HEAD(&w->conns, c, link);
    w->n_connections++;
    w->entering = c;
    if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0 || len > sizeof addr) {
        addr = (struct sockaddr_storage){.ss_family = AF_UNIX};
        len = sizeof(sa_family_t);
    }
    if (MHD_add_connection(w->daemon, fd, (struct sockaddr *)&addr, len) != MHD_YES && w->entering == c) {
        LIST_REMOVE(c, link); /* MHD has closed it, and has not seen the connection */
        w->n_connections--;
        web_user_leave(w, c->user);
        free(c);
    }
    w->entering = NULL;
    w->run = true;
}

struct lookup {
    uv_work_t work;
    struct web_conn *conn; /* owned */
    struct web_user *user; /* whose share it is of */
};

static void look_up(uv_work_t *work)
{
    peer_groups(&((struct lookup *)work->data)->conn->who);
}

static void on_looked_up(uv_work_t *work, int status)
{
    struct lookup *l = work->data;
    struct web_conn *c = l->conn;

    c->web->lookups.n--;
    l->user->lookups--;
    web_user_leave(c->web, l->user);
    if (status != 0 || c->web->stopped) {
        close(c->fd);
        free(c);
    } else {
        enter(c->web, c);
    }
    free(l);
}

/* Whose account it is may have to be asked for over a network. */
static void find_groups(struct web *w, struct web_conn *c)
{
    struct web_user *u;
    struct lookup *l;

    if (peer_groups_known(c->who.uid)) {
        peer_groups(&c->who);
        enter(w, c);
        return;
    }
    u = web_user_enter(w, c->who.uid);
    l = u != NULL && u->lookups < LOOKUPS_SHARE && w->lookups.n < LOOKUPS_MAX ? calloc(1, sizeof *l) : NULL;
    if (l != NULL) {
        l->conn = c;
        l->user = u;
        l->work.data = l;
    }
    if (l == NULL || uv_queue_work(w->owner.self->loop, &l->work, look_up, on_looked_up) != 0) {
        refuse(w, c->fd, 503, "Service Unavailable", "this node is looking up too many accounts");
        if (u != NULL)
            web_user_leave(w, u);
        free(l);
        free(c);
        return;
    }
    u->lookups++;
    w->lookups.n++;
}

static void accept_one(struct web_listener *l, int fd)
{
    struct web_conn *c = calloc(1, sizeof *c);
    int rv;

    if (c == NULL) {
        close(fd);
        return;
    }
    c->web = l->web;
    c->fd = fd;
    c->tcp = l->kind == LISTEN_TCP;
    if (!c->tcp) {
        peer_of_unix(fd, &c->who);
        enter(l->web, c);
        return;
    }
    if (!config_is_loopback(l->web->owner.self->config->http_host)) {
        c->needs_token = true;
        c->who.uid = c->who.gid = UID_NOBODY;
        enter(l->web, c);
        return;
    }
    rv = peer_of_loopback(fd, &c->who.uid);
    if (rv == 0) {
        find_groups(l->web, c);
        return;
    }
    if (rv == -EACCES)
        close(fd); /* he has gone */
    else
        refuse(l->web, fd, 403, "Forbidden", "the kernel does not say whose connection this is");
    free(c);
}

static void listen_on(struct web_listener *l, bool on);

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct web_listener *l = poll->data;
    unsigned n;

    (void)events;
    if (status < 0)
        return;
    for (n = 0; n < ACCEPTS_PER_TURN; n++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            log_warn("a client cannot be accepted over HTTP now: %s", strerror(errno));
            listen_on(l, false);
        }
        if (fd < 0)
            return;
        accept_one(l, fd);
    }
}

static void listen_on(struct web_listener *l, bool on)
{
    if (l->listening == on)
        return;
    l->listening = on;
    if (on)
        uv_poll_start(&l->poll, UV_READABLE, on_listen);
    else
        uv_poll_stop(&l->poll);
}

static int listen_tcp(struct web *w, char *why);

void web_listen_again(struct web *w, uint64_t now_ms)
{
    char why[512] = "";
    unsigned i;
    int rv;

    if (w->port_again_ms != 0 && now_ms >= w->port_again_ms) {
        rv = listen_tcp(w, why);
        w->port_again_ms = rv == 0 ? 0 : now_ms + LISTEN_AGAIN_MS;
        if (rv == 0)
            log_info("serves HTTP over TCP now: the port is free");
    }

    for (i = 0; i < w->n_listeners; i++)
        listen_on(&w->listeners[i], true);
}

static int watch(struct web *w, enum web_listener_kind kind, int fd)
{
    struct web_listener *l = &w->listeners[w->n_listeners];
    int rv = uv_poll_init(w->owner.self->loop, &l->poll, fd);

    if (rv != 0) {
        close(fd);
        return rv;
    }
    l->web = w;
    l->kind = kind;
    l->fd = fd;
    l->listening = false;
    l->poll.data = l;
    w->n_listeners++;
    listen_on(l, true);
    return 0;
}

static int listen_unix(struct web *w, char *why)
{
    const struct config *config = w->owner.self->config;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, rv = 0;
    mode_t mask;

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", config->http_socket);
    /* The node holds its data's lock and its own socket by now: what is there is a leftover. */
    unlink(config->http_socket);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mask = umask(0777 & ~config->socket_mode);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        rv = -errno;
    umask(mask);
    if (rv == 0 && config->socket_group[0] != '\0') {
        struct stat st;

        /* As its own socket, whose group was looked up. */
        if (stat(config->socket, &st) != 0 || chown(config->http_socket, (uid_t)-1, st.st_gid) != 0)
            rv = -errno;
    }
    if (rv == 0 && listen(fd, 128) != 0)
        rv = -errno;
    if (rv == 0)
        return watch(w, LISTEN_UNIX, fd);
    snprintf(why, 512, "%s: %s", config->http_socket, strerror(-rv));
    close(fd);
    return rv;
}

static int listen_tcp(struct web *w, char *why)
{
    const struct config *config = w->owner.self->config;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV},
                    *found;
    char port[8];
    int fd, one = 1, rv = 0;

    snprintf(port, sizeof port, "%u", config->http_port);
    if (getaddrinfo(config->http_host, port, &hints, &found) != 0) {
        snprintf(why, 512, "[http] listen = %.200s:%s: the address is to be a number", config->http_host,
                 port);
        return -EINVAL;
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        freeaddrinfo(found);
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 512) != 0)
        rv = -errno;
    freeaddrinfo(found);
    if (rv == 0)
        return watch(w, LISTEN_TCP, fd);
    snprintf(why, 512, "[http] listen = %.200s:%s: %s", config->http_host, port, strerror(-rv));
    close(fd);
    return rv;
}

/* Anybody can have that port when a node starts; it is needed for that all the same. */
int web_listen(struct web *w, char *why)
{
    int rv = listen_unix(w, why);

    if (rv == 0)
        rv = listen_tcp(w, why);
    if (rv != -EADDRINUSE || w->n_listeners == 0)
        return rv;
    log_warn("%s: somebody else has that port; it is tried again until it is free", why);
    w->port_again_ms = clock_boot_ms() + LISTEN_AGAIN_MS;
    return 0;
}

void web_unlisten(struct web *w)
{
    unsigned i;

    for (i = 0; i < w->n_listeners; i++) {
        uv_close((uv_handle_t *)&w->listeners[i].poll, NULL);
        close(w->listeners[i].fd);
    }
    if (w->n_listeners > 0)
        unlink(w->owner.self->config->http_socket);
    w->n_listeners = 0;
}

#include "tests/unit/ssh/fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/ssh/handover.h"
#include "sync/ssh/process.h"
#include "tests/lib/look_again.h"

#define N_CONNECTIONS 16

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

static void wait_on(pthread_cond_t *cond, pthread_mutex_t *lock, const char *what, uint64_t deadline)
{
    struct timespec t;

    if (clock_boot_ms() >= deadline)
        die("waited too long: %s", what);
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 200 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    pthread_cond_timedwait(cond, lock, &t);
}

/* ---- the node ---- */

struct connection {
    int bridge, in, out; /* in, out: -1 until they are handed over */
    bool ended;
    uint8_t queue[256 * 1024];
    size_t len;
};

static void open_connection(struct connection *c, int bridge)
{
    c->bridge = bridge;
    c->in = c->out = -1;
    c->ended = false;
    c->len = 0;
}

static void close_connection(struct connection *c)
{
    if (c->in >= 0) {
        close(c->in);
        close(c->out);
    }
    if (c->bridge >= 0)
        close(c->bridge);
    open_connection(c, -1);
}

static void nonblocking(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl: %s", strerror(errno));
}

static void take_stream(struct test_node *n, struct connection *c)
{
    char name[SSH_PEER_NAME_MAX + 1];
    int rv = handover_receive(c->bridge, name, &c->in, &c->out);
    struct ucred who;
    socklen_t size = sizeof who;

    if (rv == -EAGAIN)
        return;
    if (rv < 0 || getsockopt(c->bridge, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
        die("no handover: %s", strerror(-rv));
    nonblocking(c->in);
    nonblocking(c->out);
    pthread_mutex_lock(&n->lock);
    snprintf(n->peer, sizeof n->peer, "%s", name);
    n->bridge = who.pid;
    n->n_accepted++;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static void serve(struct test_node *n, struct connection *c, enum node_mode mode)
{
    ssize_t got;
    size_t sent = 0;

    if (c->in < 0)
        take_stream(n, c);
    if (c->in < 0)
        return;
    if (!c->ended && c->len < sizeof c->queue) {
        got = read(c->in, c->queue + c->len, sizeof c->queue - c->len);
        if (got > 0) {
            c->len += (size_t)got;
            pthread_mutex_lock(&n->lock);
            n->n_read += (uint64_t)got;
            pthread_mutex_unlock(&n->lock);
        } else if (got == 0 || errno != EAGAIN) {
            c->ended = true;
            pthread_mutex_lock(&n->lock);
            n->n_ended++;
            pthread_cond_broadcast(&n->changed);
            pthread_mutex_unlock(&n->lock);
        }
    }
    if (mode == NODE_SOURCE) {
        memset(c->queue, 'x', sizeof c->queue);
        c->len = sizeof c->queue;
    }
    while (sent < c->len) {
        got = write(c->out, c->queue + sent, c->len - sent);
        if (got < 0 && errno == EAGAIN)
            break;
        sent += got > 0 ? (size_t)got : c->len - sent; /* nobody reads: let it go */
    }
    c->len -= sent;
    memmove(c->queue, c->queue + sent, c->len);
    pthread_mutex_lock(&n->lock);
    n->n_written += sent;
    pthread_mutex_unlock(&n->lock);
    if ((c->ended && c->len == 0) || mode == NODE_CLOSE || (c->ended && mode == NODE_SOURCE))
        close_connection(c);
}

static void *node_main(void *arg)
{
    struct test_node *n = arg;
    struct connection *c = calloc(N_CONNECTIONS, sizeof *c);
    enum node_mode mode = NODE_ECHO;
    bool stop = false;
    uint64_t count;

    for (int i = 0; i < N_CONNECTIONS; i++)
        open_connection(&c[i], -1);
    while (!stop) {
        struct pollfd p[2 * N_CONNECTIONS + 2] = {{.fd = n->listen_fd, .events = POLLIN},
                                                  {.fd = n->wake_fd, .events = POLLIN}};
        bool drop;

        for (int i = 0; i < N_CONNECTIONS; i++) {
            struct pollfd *in = &p[2 * i + 2], *out = &p[2 * i + 3];

            *in = *out = (struct pollfd){.fd = -1};
            if (c[i].in < 0)
                *in = (struct pollfd){.fd = c[i].bridge, .events = POLLIN};
            else if (!c[i].ended && c[i].len < sizeof c[i].queue)
                *in = (struct pollfd){.fd = c[i].in, .events = POLLIN};
            if (c[i].in >= 0 && (c[i].len > 0 || mode == NODE_SOURCE))
                *out = (struct pollfd){.fd = c[i].out, .events = POLLOUT};
        }
        poll(p, 2 * N_CONNECTIONS + 2, -1);
        if (p[1].revents != 0 && read(n->wake_fd, &count, sizeof count) < 0)
            die("eventfd");
        pthread_mutex_lock(&n->lock);
        mode = n->mode;
        stop = n->stop;
        drop = n->drop;
        n->drop = false;
        pthread_mutex_unlock(&n->lock);
        for (int i = 0; i < N_CONNECTIONS; i++) {
            if (drop || stop)
                close_connection(&c[i]);
            else if (c[i].bridge >= 0 && (p[2 * i + 2].revents != 0 || p[2 * i + 3].revents != 0))
                serve(n, &c[i], mode);
        }
        for (int i = 0; i < N_CONNECTIONS && p[0].revents != 0; i++) {
            if (c[i].bridge >= 0)
                continue;
            open_connection(&c[i], accept4(n->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (c[i].bridge >= 0 && handover_check_peer(c[i].bridge) < 0)
                die("another user's bridge");
            break;
        }
    }
    free(c);
    return NULL;
}

static void wake(const struct test_node *n)
{
    uint64_t one = 1;

    if (write(n->wake_fd, &one, sizeof one) < 0)
        die("eventfd");
}

void node_start(struct test_node *n, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    signal(SIGPIPE, SIG_IGN);
    memset(n, 0, sizeof *n);
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->changed, NULL);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    unlink(path);
    n->wake_fd = eventfd(0, EFD_CLOEXEC);
    n->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(n->listen_fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(n->listen_fd, 16) < 0)
        die("cannot listen at %s: %s", path, strerror(errno));
    pthread_create(&n->thread, NULL, node_main, n);
}

void node_stop(struct test_node *n)
{
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_mutex_unlock(&n->lock);
    wake(n);
    pthread_join(n->thread, NULL);
    close(n->listen_fd);
    close(n->wake_fd);
    pthread_mutex_destroy(&n->lock);
    pthread_cond_destroy(&n->changed);
}

void node_set_mode(struct test_node *n, enum node_mode mode)
{
    pthread_mutex_lock(&n->lock);
    n->mode = mode;
    pthread_mutex_unlock(&n->lock);
    wake(n);
}

void node_drop(struct test_node *n)
{
    pthread_mutex_lock(&n->lock);
    n->drop = true;
    pthread_mutex_unlock(&n->lock);
    wake(n);
}

void node_kill_bridge(struct test_node *n)
{
    pthread_mutex_lock(&n->lock);
    kill(n->bridge, SIGKILL);
    pthread_mutex_unlock(&n->lock);
}

void node_expect_accepted(struct test_node *n, unsigned count)
{
    uint64_t deadline = clock_boot_ms() + WAIT_MS;

    pthread_mutex_lock(&n->lock);
    while (n->n_accepted < count)
        wait_on(&n->changed, &n->lock, "a bridge at the node", deadline);
    pthread_mutex_unlock(&n->lock);
}

void node_expect_ended(struct test_node *n, unsigned count)
{
    uint64_t deadline = clock_boot_ms() + WAIT_MS;

    pthread_mutex_lock(&n->lock);
    while (n->n_ended < count)
        wait_on(&n->changed, &n->lock, "end of file at the node", deadline);
    pthread_mutex_unlock(&n->lock);
}

static uint64_t locked(struct test_node *n, const uint64_t *bytes)
{
    uint64_t value;

    pthread_mutex_lock(&n->lock);
    value = *bytes;
    pthread_mutex_unlock(&n->lock);
    return value;
}

uint64_t node_read(struct test_node *n)
{
    return locked(n, &n->n_read);
}

uint64_t node_written(struct test_node *n)
{
    return locked(n, &n->n_written);
}

/* ---- keys, files, sshd ---- */

/* Below the range from which the kernel takes ports of outgoing connections. */
uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int tries = 0; tries < 500; tries++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rv;
        uint16_t r = 0;

        if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
            die("no random numbers");
        a.sin_port = htons((uint16_t)(10000 + r % 20000));
        rv = bind(fd, (struct sockaddr *)&a, sizeof a);
        close(fd);
        if (rv == 0)
            return ntohs(a.sin_port);
    }
    die("no free port");
    return 0;
}

static void find_bridge(char *out, size_t size)
{
    const char *given = getenv("SSH_TEST_BRIDGE");
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (given != NULL) {
        snprintf(out, size, "%s", given);
        return;
    }
    self[n > 0 ? n : 0] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(out, size, "%.*s/ssh_test_bridge", PATH_MAX - 32, self);
}

void fixture_authorize(struct fixture *f, const char *key_path)
{
    char key[IDENTITY_PUBLIC_MAX], message[512];
    struct identity_peer peer = {
        .name = "n1", .public_key = key, .bridge_path = f->bridge, .socket_path = f->socket};

    if (identity_read_public(key_path, key) < 0 ||
        identity_write_authorized_keys(f->authorized_keys, &peer, 1, message, sizeof message) < 0)
        die("authorized_keys: %s", message);
}

void fixture_pin(struct fixture *f, const char *key_path)
{
    char key[IDENTITY_PUBLIC_MAX], message[512];
    struct identity_pin pin = {.host = "127.0.0.1", .port = f->port, .public_key = key};

    if ((key_path != NULL && identity_read_public(key_path, key) < 0) ||
        identity_write_known_hosts(f->known_hosts, &pin, key_path != NULL ? 1 : 0, message, sizeof message) <
            0)
        die("known_hosts: %s", message);
}

static bool is_listening(uint16_t port)
{
    char line[256], wanted[64];
    bool found = false;
    FILE *tcp = fopen("/proc/net/tcp", "re");

    snprintf(wanted, sizeof wanted, " 0100007F:%04X 00000000:0000 0A ",
             port); /* 127.0.0.1, LISTEN: proc(5) */
    while (tcp != NULL && !found && fgets(line, sizeof line, tcp) != NULL)
        found = strstr(line, wanted) != NULL;
    if (tcp != NULL)
        fclose(tcp);
    return found;
}

/* Until it listens: it has read its configuration then, which a test may write anew. */
void fixture_start_sshd(struct fixture *f)
{
    uint64_t until = 0;
    char message[512];

    if (sshd_start(f->sshd, message, sizeof message) < 0)
        die("sshd: %s", message);
    while (!is_listening(f->port))
        if (!look_again(&until, WAIT_MS))
            die("sshd does not listen at port %u", f->port);
}

void fixture_kill_sshd(struct fixture *f)
{
    uint64_t until = 0;
    char message[512];
    uint32_t retry_ms;

    kill(sshd_pid(f->sshd), SIGKILL);
    while (!sshd_poll(f->sshd, &retry_ms, message, sizeof message))
        if (!look_again(&until, WAIT_MS))
            die("sshd does not die");
}

/* Parents first: sshd must not be told that its command has ended. */
static unsigned kill_below(pid_t pid, bool itself)
{
    char path[64], text[4096];
    unsigned n = 0;
    ssize_t len;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    len = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    if (itself)
        kill(pid, SIGKILL);
    for (char *s = text, *end; strtol(s, &end, 10) > 0; s = end)
        n += kill_below((pid_t)strtol(s, NULL, 10), true);
    return n + (itself ? 1 : 0);
}

unsigned fixture_kill_sessions(struct fixture *f)
{
    return kill_below(sshd_pid(f->sshd), false);
}

static void make_key(const char *path)
{
    char message[512];

    if (identity_ensure(path, "test", message, sizeof message) < 0)
        die("%s", message);
}

struct fixture *fixture_new(const char *extra)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sshd_config config;
    char message[512];

    snprintf(f->dir, sizeof f->dir, "/tmp/kvfs-ssh-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        die("no directory");
    snprintf(f->client_key, sizeof f->client_key, "%s/client", f->dir);
    snprintf(f->host_key, sizeof f->host_key, "%s/host", f->dir);
    snprintf(f->other_key, sizeof f->other_key, "%s/other", f->dir);
    snprintf(f->authorized_keys, sizeof f->authorized_keys, "%s/authorized_keys", f->dir);
    snprintf(f->known_hosts, sizeof f->known_hosts, "%s/known_hosts", f->dir);
    snprintf(f->socket, sizeof f->socket, "%s/peer.sock", f->dir);
    find_bridge(f->bridge, sizeof f->bridge);
    if (access(f->bridge, X_OK) < 0)
        die("%s: %s", f->bridge, strerror(errno));
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    make_key(f->client_key);
    make_key(f->host_key);
    make_key(f->other_key);
    f->port = free_port();
    fixture_authorize(f, f->client_key);
    fixture_pin(f, f->host_key);
    node_start(&f->node, f->socket);
    config = (struct sshd_config){.run_dir = f->dir,
                                  .port = f->port,
                                  .host_key_path = f->host_key,
                                  .authorized_keys_path = f->authorized_keys,
                                  .log_level = "VERBOSE",
                                  .extra = extra};
    if (sshd_new(&config, &f->sshd, message, sizeof message) < 0)
        die("sshd: %s", message);
    fixture_start_sshd(f);
    return f;
}

static void remove_directory(const char *path)
{
    DIR *d = opendir(path);
    char name[PATH_MAX];

    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        unlink(name);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

void fixture_free(struct fixture *f)
{
    while (f->n_taken < f->n_connected)
        close(f->fds[f->n_taken++]);
    sshd_free(f->sshd);
    node_stop(&f->node);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    remove_directory(f->dir);
    free(f);
}

/* ---- the link ---- */

static void on_connected(void *arg, int fd)
{
    struct fixture *f = arg;

    pthread_mutex_lock(&f->lock);
    if (f->n_connected == sizeof f->fds / sizeof f->fds[0])
        die("too many connections");
    f->fds[f->n_connected++] = fd;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void on_failed(void *arg, enum ssh_failure failure, const char *message, uint32_t retry_ms)
{
    struct fixture *f = arg;

    (void)retry_ms;
    if (getenv("SSH_TEST_VERBOSE") != NULL)
        fprintf(stderr, "# %s: %s (again in %u ms)\n", ssh_failure_text(failure), message, retry_ms);
    pthread_mutex_lock(&f->lock);
    f->n_failed++;
    f->n_failures[failure]++;
    snprintf(f->message, sizeof f->message, "%s", message);
    snprintf(f->messages[failure], sizeof f->messages[failure], "%s", message);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

struct ssh_link_config fixture_link_config(const struct fixture *f)
{
    return (struct ssh_link_config){.name = "n2",
                                    .host = "127.0.0.1",
                                    .port = f->port,
                                    .user = getpwuid(geteuid())->pw_name,
                                    .private_key_path = f->client_key,
                                    .known_hosts_path = f->known_hosts,
                                    .connect_timeout_ms = 20000};
}

struct ssh_link *fixture_link_with(struct fixture *f, const struct ssh_link_config *config)
{
    struct ssh_link_callbacks callbacks = {.on_connected = on_connected, .on_failed = on_failed, .arg = f};
    struct ssh_link *link;

    if (ssh_link_start(config, &callbacks, &link) < 0)
        die("no link");
    return link;
}

struct ssh_link *fixture_link(struct fixture *f)
{
    struct ssh_link_config config = fixture_link_config(f);

    return fixture_link_with(f, &config);
}

int fixture_expect_connected(struct fixture *f)
{
    uint64_t deadline = clock_boot_ms() + WAIT_MS;
    int fd;

    pthread_mutex_lock(&f->lock);
    while (f->n_taken == f->n_connected)
        wait_on(&f->changed, &f->lock, f->message[0] != '\0' ? f->message : "a connection", deadline);
    fd = f->fds[f->n_taken++];
    pthread_mutex_unlock(&f->lock);
    return fd;
}

const char *fixture_expect_failure(struct fixture *f, enum ssh_failure failure, unsigned n)
{
    uint64_t deadline = clock_boot_ms() + WAIT_MS;

    pthread_mutex_lock(&f->lock);
    while (f->n_failures[failure] < n)
        wait_on(&f->changed, &f->lock, ssh_failure_text(failure), deadline);
    pthread_mutex_unlock(&f->lock);
    return f->messages[failure];
}

/* ---- transfers ---- */

static void wait_fd(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    if (poll(&p, 1, WAIT_MS) == 0)
        die("a stream stands still");
}

void write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            wait_fd(fd, POLLOUT);
        } else {
            die("send: %s", strerror(errno));
        }
    }
}

void read_exactly(int fd, void *data, size_t len)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = recv(fd, p, len, MSG_DONTWAIT);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            wait_fd(fd, POLLIN);
        } else {
            die("recv: %s", n == 0 ? "end of file" : strerror(errno));
        }
    }
}

size_t read_to_end(int fd)
{
    char text[65536];
    size_t total = 0;

    for (;;) {
        ssize_t n = recv(fd, text, sizeof text, MSG_DONTWAIT);

        if (n > 0)
            total += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            wait_fd(fd, POLLIN);
        else
            return total;
    }
}

/* Starting, order matters: the lock on the folder, log.db, the
 * group's state and log, and what an interrupted install left of them, the peers' socket and sshd, the
 * engine, and last the clients' socket: whoever can connect is served.
 * Stopping goes the other way round. */
#include "kvnode/node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvnode/client/past.h"
#include "kvnode/client/serve.h"
#include "kvnode/loop/turn_malloc.h"
#include "kvnode/node/node_state.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "kvnode/web/web.h"
#include "sync/base/clock.h"
#include "sync/base/disk.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/engine/configuration.h"
#include "sync/ssh/identity.h"
#include "sync/ssh/sshd.h"

#define WHY_MAX 512
/* A leader that stops waits this long for somebody to take over. */
#define HAND_OVER_MS 1500
#define LOCK_WAIT_MS 2000

struct running {
    struct node node;
    struct sshd *sshd; /* NULL: the operator's own takes the logins */
    uv_timer_t sshd_timer;
    int lock_fd;
    char why[WHY_MAX];
};

static struct running *running_of(struct node *n)
{
    return (struct running *)((char *)n - offsetof(struct running, node));
}

static void stop_loop(struct node *n)
{
    uv_stop(&n->loop);
}

static void on_turn_end(uv_prepare_t *prepare)
{
    struct node *n = prepare->data;

    if (n->turn.limit_ns != 0)
        turn_idle(&n->turn, uv_metrics_idle_time(&n->loop));
    node_turn_end(n);
}

static void on_beat(uv_timer_t *timer)
{
    struct node *n = timer->data;

    self_beat(&n->self, clock_boot_ms());
    node_beat(n);
    if (n->self.stopping &&
        (!consensus_is_leader(n->group->consensus) || clock_boot_ms() >= n->stop_deadline_ms))
        stop_loop(n);
}

static void on_stop_signal(uv_signal_t *handle, int signum)
{
    struct node *n = handle->data;

    if (n->self.stopping) {
        stop_loop(n);
        return;
    }
    log_info("%s: stopping", strsignal(signum));
    n->self.stopping = true;
    n->stop_deadline_ms = clock_boot_ms() + HAND_OVER_MS;
    if (!consensus_is_leader(n->group->consensus) || consensus_voters(n->group->consensus) < 2 ||
        consensus_transfer(n->group->consensus, 0) != 0)
        stop_loop(n);
}

/* A terminal that is closed, or somebody who rotates logs: no reason to stop. */
static void on_hangup(uv_signal_t *handle, int signum)
{
    (void)handle;
    log_info("%s: goes on (the log is standard error; SIGTERM stops)", strsignal(signum));
}

static void on_sshd_timer(uv_timer_t *timer)
{
    struct running *r = timer->data;
    char message[WHY_MAX];

    if (sshd_start(r->sshd, message, sizeof message) != 0 && sshd_pid(r->sshd) == 0) {
        log_error("sshd: %s; tried again in 5 s", message);
        uv_timer_start(timer, on_sshd_timer, 5000, 0);
    }
}

static void on_child(uv_signal_t *handle, int signum)
{
    struct running *r = running_of(handle->data);
    char message[WHY_MAX];
    uint32_t retry_ms;

    (void)signum;
    if (r->sshd == NULL || !sshd_poll(r->sshd, &retry_ms, message, sizeof message))
        return;
    log_error("sshd: %s; started again in %u ms", message, retry_ms);
    uv_timer_start(&r->sshd_timer, on_sshd_timer, retry_ms, 0);
}

/* ---- starting ---- */

static int lock_folder(struct running *r)
{
    const char *dir = r->node.config->data_dir;
    char path[4200];

    snprintf(path, sizeof path, "%s/lock", dir);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock_fd < 0) {
        snprintf(r->why, WHY_MAX, "%.300s: %s. Try: kvnode init", path, strerror(errno));
        return -errno;
    }
    /* The node that was killed a moment ago may still be on its way out. */
    while (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK && clock_boot_ms() - r->node.self.started_ms < LOCK_WAIT_MS) {
            poll(NULL, 0, 20);
            continue;
        }
        snprintf(r->why, WHY_MAX, "%.300s is in use by another process: this node is running already", dir);
        return -EBUSY;
    }
    return 0;
}

/* group_out: the folder of the group. */
static int make_folders(struct running *r, char *group_out, size_t size)
{
    struct node *n = &r->node;
    char groups[4000];
    int rv = 0;

    snprintf(groups, sizeof groups, "%s/groups", n->config->data_dir);
    snprintf(group_out, size, "%s/groups/%u", n->config->data_dir, NODE_GROUP);
    if ((mkdir(groups, 0700) != 0 && errno != EEXIST) || (mkdir(group_out, 0700) != 0 && errno != EEXIST))
        rv = -errno;
    /* The way to the data, before anything is promised of it: also what `init` or a copy
     * has just made. */
    if (rv == 0)
        rv = disk_sync_name(n->config->data_dir);
    if (rv == 0 || rv == -EACCES) /* whoever made it could */
        rv = disk_sync_directory(n->config->data_dir);
    if (rv == 0)
        rv = disk_sync_directory(groups);
    if (rv < 0)
        snprintf(r->why, WHY_MAX, "%.300s: %s", group_out, strerror(-rv));
    return rv;
}

static int write_identities(struct running *r)
{
    const struct config *config = r->node.config;
    struct identity_peer peers[CONFIG_PEERS_MAX];
    struct identity_pin pins[CONFIG_PEERS_MAX];
    char socket_path[CONFIG_SOCKET_PATH_MAX + 1];
    size_t i;
    int rv;

    rv = config_peer_socket(config, socket_path);
    if (rv != 0)
        return rv;
    for (i = 0; i < config->n_peers; i++) {
        const struct config_peer *p = &config->peers[i];

        peers[i] = (struct identity_peer){p->name, p->key, config->program, socket_path};
        pins[i] = (struct identity_pin){p->host, p->port, p->host_key};
    }
    rv = identity_write_authorized_keys(config->authorized_keys, peers, config->n_peers, r->why, WHY_MAX);
    if (rv == 0)
        rv = identity_write_known_hosts(config->known_hosts, pins, config->n_peers, r->why, WHY_MAX);
    return rv;
}

/* Before a node is a member: afterwards the log says who is, whatever the file names, and a
 * cluster that works must not stop for a section too many or too few (see warnings.c). */
static int check_numbers(struct running *r)
{
    const struct config *config = r->node.config;
    size_t n = config->n_peers + 1;

    if (config_number_fits(n) && (n > 1 || access(config->founding, F_OK) == 0))
        return 0;
    if (n == 1)
        snprintf(r->why, WHY_MAX,
                 "this node is to be let into cluster %016llx, and its configuration has no [peer] section: "
                 "append those of the others (kvnode config --peer, there)",
                 (unsigned long long)config->cluster_id);
    else
        snprintf(r->why, WHY_MAX,
                 "a cluster has 1, 3, 5 or 7 nodes, and the configuration names %zu%s: add or remove a "
                 "[peer] section",
                 n, n % 2 == 0 ? ", of which no more may fail than of one less" : "");
    return -EINVAL;
}

static int found_cluster(struct running *r)
{
    const struct config *config = r->node.config;
    static struct configuration founders;
    char address[CONFIGURATION_MAX_ADDRESS + 1];
    uint64_t last = 0;
    size_t i, k;
    int rv;

    /* The founders in the order of their ids: every node writes the same bytes. */
    for (i = 0; i < config->n_peers + 1; i++) {
        uint64_t id = UINT64_MAX;
        const struct config_peer *peer = NULL;

        if (config->id > last)
            id = config->id;
        for (k = 0; k < config->n_peers; k++) {
            if (config->peers[k].id > last && config->peers[k].id < id) {
                id = config->peers[k].id;
                peer = &config->peers[k];
            }
        }
        if (id != config->id && peer == NULL)
            return -EINVAL;
        if (id == config->id)
            snprintf(address, sizeof address, "%s", config->name);
        else
            snprintf(address, sizeof address, "%s", peer->name);
        rv = configuration_add(&founders, id, address, SERVER_VOTER);
        if (rv != 0) {
            snprintf(r->why, WHY_MAX, "the configuration's nodes: %s", error_text(rv));
            return -EINVAL;
        }
        last = id;
    }
    rv = consensus_found(r->node.group->consensus, &founders, 1, 0);
    if (rv != 0)
        return rv;
    door_founded(r->node.door);
    log_info("a new cluster of %u nodes is founded", founders.n);
    return 0;
}

static int open_door(struct node *n, bool has_log, char *why)
{
    struct door_owner owner = node_owns_door(n);

    return door_open(&owner, has_log, &n->door, why);
}

/* log.db, the group's state and log, and who this node is by them. */
static int open_files(struct running *r)
{
    struct node *n = &r->node;
    char path[4200];
    bool exists;
    int rv;

    rv = door_discard(n->config, r->why);
    if (rv != 0)
        return rv;
    snprintf(path, sizeof path, "%s/log.db", n->config->data_dir);
    rv = shared_log_open(path, &n->loop, &n->turn, &n->log, r->why);
    if (rv != 0)
        return rv;
    n->owner.log = n->log;
    rv = group_open(n->group, &exists, r->why);
    if (rv == 0)
        rv = open_door(n, exists, r->why);
    if (rv == 0)
        rv = group_recover(n->group, r->why);
    if (rv == 0 && !exists && door_standing(n->door) == STANDING_WAITING)
        rv = check_numbers(r);
    /* Only the first node founds; the others wait until a member lets them in. */
    if (rv == 0 && !exists && door_standing(n->door) == STANDING_WAITING &&
        access(n->config->founding, F_OK) == 0)
        rv = found_cluster(r);
    if (rv != 0)
        return rv;
    unlink(n->config->founding);
    if (door_standing(n->door) != STANDING_MEMBER)
        log_warn("%s%s%s", door_text(n->door),
                 door_standing(n->door) == STANDING_GONE_BACK ? ". The way back: " : "",
                 door_way_back(n->door));
    return 0;
}

static int start_sshd(struct running *r)
{
    const struct config *config = r->node.config;
    struct sshd_config sc = {.run_dir = config->ssh_dir,
                             .listen_address = config->listen_host,
                             .port = config->listen_port,
                             .host_key_path = config->host_key,
                             .authorized_keys_path = config->authorized_keys};
    int rv;

    if (!config->private_sshd || config->n_peers == 0)
        return 0;
    rv = sshd_new(&sc, &r->sshd, r->why, WHY_MAX);
    if (rv == 0)
        rv = sshd_start(r->sshd, r->why, WHY_MAX);
    return rv;
}

/* The manager of services, if there is one, learns that the node serves
 * (sd_notify(3)). */
static void tell_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    int fd;

    if (len == 0 || len >= sizeof addr.sun_path)
        return;
    memcpy(addr.sun_path, path, len);
    if (addr.sun_path[0] == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&addr,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        log_warn("the service manager at %s does not listen", path);
    close(fd);
}

static void start_handles(struct running *r)
{
    struct node *n = &r->node;

    uv_timer_init(&n->loop, &n->later);
    uv_timer_init(&n->loop, &n->beat);
    uv_timer_init(&n->loop, &r->sshd_timer);
    uv_prepare_init(&n->loop, &n->turn_end);
    uv_signal_init(&n->loop, &n->sigterm);
    uv_signal_init(&n->loop, &n->sigint);
    uv_signal_init(&n->loop, &n->sighup);
    uv_signal_init(&n->loop, &n->sigchld);
    n->later.data = n->beat.data = n->turn_end.data = n;
    n->sigterm.data = n->sigint.data = n->sighup.data = n->sigchld.data = n;
    uv_signal_start(&n->sighup, on_hangup, SIGHUP);
    r->sshd_timer.data = r;
}

static int start_peers(struct node *n, char *why)
{
    struct peers_owner owner = node_owns_peers(n);
    int rv;

    node_knows_itself(n);
    rv = peers_start(&owner, &n->peers, why);
    n->self.peers = n->peers;
    if (rv == 0)
        n->links = peers_links(n->peers);
    return rv;
}

static int start_serving(struct node *n, char *why)
{
    struct serve_owner owner = {.self = &n->self,
                                .streams = &n->streams,
                                .turn = &n->turn,
                                .group = n->group,
                                .door = n->door,
                                .past = n->past};

    int rv = serve_start(&owner, &n->serve, why);

    if (rv == 0) {
        struct web_owner web = {.self = &n->self, .group = n->group, .serve = n->serve, .turn = &n->turn};

        rv = web_start(&web, &n->web, why);
    }
    return rv;
}

static int start(struct running *r)
{
    struct node *n = &r->node;
    char group_dir[4000];
    int rv;

    rv = lock_folder(r);
    if (rv != 0)
        return rv;
    rv = make_folders(r, group_dir, sizeof group_dir);
    if (rv == 0)
        rv = write_identities(r);
    if (rv != 0)
        return rv;
    n->streams.turn = &n->turn;
    start_handles(r);
    node_owns_group(n);
    rv = group_new(NODE_GROUP, group_dir, &n->owner, &n->group);
    if (rv != 0)
        return rv;
    n->past = past_new(n->group, &n->self);
    if (n->past == NULL)
        return -ENOMEM;
    rv = open_files(r);
    if (rv == 0)
        rv = start_sshd(r);
    if (rv == 0)
        rv = start_peers(n, r->why);
    if (rv != 0)
        return rv;
    rv = group_start(n->group, door_standing(n->door) == STANDING_MEMBER, r->why);
    if (rv == 0)
        rv = start_serving(n, r->why);
    if (rv != 0)
        return rv;
    uv_prepare_start(&n->turn_end, on_turn_end);
    turn_init(&n->turn);
    if (n->turn.limit_ns != 0)
        uv_loop_configure(&n->loop, UV_METRICS_IDLE_TIME);
    uv_timer_start(&n->beat, on_beat, n->config->heartbeat_ms, n->config->heartbeat_ms);
    uv_signal_start(&n->sigterm, on_stop_signal, SIGTERM);
    uv_signal_start(&n->sigint, on_stop_signal, SIGINT);
    uv_signal_start(&n->sigchld, on_child, SIGCHLD);
    return 0;
}

/* ---- stopping ---- */

static void close_handle(uv_handle_t *handle)
{
    if (handle->data != NULL && !uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* From the outside in: nobody asks any more, then nothing is promised any more,
 * then what was promised is written. */
static void stop(struct running *r)
{
    struct node *n = &r->node;

    bool idle = true;

    if (n->group != NULL)
        group_end_requests(n->group);
    serve_stop(n->serve);
    peers_stop(n->peers);
    sshd_free(r->sshd);
    if (n->turn_end.data != NULL) {
        uv_prepare_stop(&n->turn_end);
        streams_flush_last(&n->streams);
        web_stop(n->web);
        turn_deinit(&n->turn);
    } else {
        web_stop(n->web);
    }
    if (n->group != NULL)
        idle = group_stop(n->group);
    shared_log_close(n->log);
    if (!idle) {
        log_info("stopped while a state file was being made or installed; the next start goes on");
        _exit(n->anew); /* who was readmitted is to be started again */
    }
    close_handle((uv_handle_t *)&n->later);
    close_handle((uv_handle_t *)&n->beat);
    close_handle((uv_handle_t *)&n->turn_end);
    close_handle((uv_handle_t *)&n->sigterm);
    close_handle((uv_handle_t *)&n->sigint);
    close_handle((uv_handle_t *)&n->sighup);
    close_handle((uv_handle_t *)&n->sigchld);
    close_handle((uv_handle_t *)&r->sshd_timer);
    streams_deinit(&n->streams);
    uv_run(&n->loop, UV_RUN_DEFAULT);
    past_free(n->past);
    web_free(n->web);
    serve_free(n->serve);
    peers_free(n->peers);
    group_free(n->group);
    door_free(n->door);
    uv_loop_close(&n->loop);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
}

/* As many descriptors as this process may have: clients come with one each. */
static void raise_descriptors(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= files.rlim_max)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* One life: from the start to the end, or to a readmission (*anew_out). */
static int live(const struct config *config, bool *anew_out)
{
    struct running *r = calloc(1, sizeof *r);
    int rv;

    *anew_out = false;
    if (r == NULL)
        return -ENOMEM;
    r->node.config = config;
    r->node.self.started_ms = clock_boot_ms();
    r->lock_fd = -1;
    if (uv_loop_init(&r->node.loop) != 0) {
        free(r);
        return -ENOMEM;
    }
    streams_init(&r->node.streams, &r->node.loop);
    rv = start(r);
    if (rv != 0) {
        log_error("cannot start: %s", r->why[0] != '\0' ? r->why : strerror(-rv));
    } else {
        if (group_serves(r->node.group))
            log_info("serves clients at %s; revision %llu", config->socket,
                     (unsigned long long)store_applied(r->node.group->store));
        tell_ready();
        uv_run(&r->node.loop, UV_RUN_DEFAULT);
    }
    stop(r);
    *anew_out = rv == 0 && r->node.anew && !r->node.self.stopping;
    free(r);
    return rv;
}

int node_run(const struct config *config)
{
    bool anew;
    int rv;

    signal(SIGPIPE, SIG_IGN);
    turn_tune_malloc();
    umask(0077); /* values are secrets */
    raise_descriptors();
    do
        rv = live(config, &anew);
    while (anew);
    if (rv == 0)
        log_info("stopped");
    return rv == 0 ? 0 : 1;
}

/* The life of the link's thread:
 *
 *   attempt: dial ── session step ── UP: on_connected ── pump ── why it ended
 *      ^                  │ failed                                  │
 *      └──── delay <── on_failed <──────────────────────────────────┘
 *
 * An eventfd reaches the thread: stop_fd is written once, never read, and part
 * of every poll.
 *
 * The delay begins anew only after the peer has sent a first byte: a command that
 * starts and ends at once (the peer's node is down, its sshd is up) must not be
 * tried ten times a second. */
#include "sync/ssh/link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/ssh/dial.h"
#include "sync/ssh/pump.h"
#include "sync/ssh/session.h"

struct ssh_link {
    struct ssh_link_config config; /* strings owned */
    struct ssh_link_callbacks callbacks;
    pthread_t thread;
    int stop_fd;       /* owned; an eventfd */
    uint32_t delay_ms; /* upper end of the next delay; the thread's */
};

const char *ssh_failure_text(enum ssh_failure failure)
{
    static const char *const texts[SSH_FAILURE_COUNT] = {
        [SSH_FAILED_RESOLVE] = "host name unknown",
        [SSH_FAILED_REFUSED] = "connection refused",
        [SSH_FAILED_TIMEOUT] = "timeout",
        [SSH_FAILED_NETWORK] = "network failure",
        [SSH_FAILED_PROTOCOL] = "not a usable SSH server",
        [SSH_FAILED_HOST_KEY_UNKNOWN] = "host key unknown",
        [SSH_FAILED_HOST_KEY_CHANGED] = "host key mismatch",
        [SSH_FAILED_OWN_KEY] = "own key unusable",
        [SSH_FAILED_KEY_REFUSED] = "own key refused",
        [SSH_FAILED_EXEC] = "command not started",
        [SSH_FAILED_REMOTE_ENDED] = "the peer's end closed",
        [SSH_FAILED_LOST] = "connection lost",
        [SSH_FAILED_LOCAL] = "out of memory or descriptors",
    };

    return (unsigned)failure < SSH_FAILURE_COUNT ? texts[failure] : "unknown failure";
}

/* Uniform between the shortest delay and an upper end that doubles: the first is
 * exact, and many diallers of one peer drift apart. */
static uint32_t next_delay(struct ssh_link *link)
{
    uint32_t least = link->config.backoff_min_ms, most = link->config.backoff_max_ms;
    uint32_t delay = least + arc4random_uniform(link->delay_ms - least + 1);

    link->delay_ms = link->delay_ms > most / 2 ? most : link->delay_ms * 2;
    return delay;
}

/* False: stopped. */
static bool wait_delay(struct ssh_link *link, uint32_t delay_ms)
{
    uint64_t deadline = clock_boot_ms() + delay_ms, now;

    while ((now = clock_boot_ms()) < deadline) {
        struct pollfd p = {.fd = link->stop_fd, .events = POLLIN};

        if (poll(&p, 1, (int)(deadline - now)) > 0 && p.revents != 0)
            return false;
    }
    return true;
}

struct outcome {
    bool stopped, silent; /* silent: the caller closed; no on_failed */
    bool proved;          /* the peer sent something */
    enum ssh_failure failure;
    char message[700];
};

__attribute__((format(printf, 3, 4))) static void say(struct outcome *o, enum ssh_failure failure,
                                                      const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(o->message, sizeof o->message, fmt, args);
    va_end(args);
    o->failure = failure;
}

/* Until the command runs. False: outcome says why not. */
static bool establish(struct ssh_link *link, struct ssh_session *ssh, int tcp, uint64_t deadline,
                      struct outcome *o)
{
    for (;;) {
        enum ssh_step step = ssh_session_step(ssh);
        ssize_t unsent = ssh_session_send(ssh), received;
        struct pollfd p[2];
        uint64_t now = clock_boot_ms();

        if (step == SSH_STEP_UP)
            return true;
        if (step == SSH_STEP_FAILED) {
            say(o, ssh_session_failure(ssh), "%s", ssh_session_message(ssh));
            return false;
        }
        if (now >= deadline) {
            say(o, SSH_FAILED_TIMEOUT, "timeout: not connected after %u ms, while %s",
                link->config.connect_timeout_ms, ssh_session_stage(ssh));
            return false;
        }
        p[0] = (struct pollfd){.fd = tcp, .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
        p[1] = (struct pollfd){.fd = link->stop_fd, .events = POLLIN};
        if (poll(p, 2, (int)(deadline - now)) <= 0)
            continue;
        if (p[1].revents != 0) {
            o->stopped = true;
            return false;
        }
        received = ssh_session_receive(ssh);
        /* A failed send shows here as well, at the latest when the reset comes;
         * the session turns it into a message. */
        if (received == -ENOMEM) {
            say(o, SSH_FAILED_LOCAL, "out of memory");
            return false;
        }
    }
}

static void attempt(struct ssh_link *link, struct outcome *o, uint32_t *delay_ms_out)
{
    const struct ssh_link_config *c = &link->config;
    struct ssh_session_config sc = {.host = c->host,
                                    .port = c->port,
                                    .user = c->user,
                                    .private_key_path = c->private_key_path,
                                    .known_hosts_path = c->known_hosts_path,
                                    .command = c->command};
    uint64_t deadline = clock_boot_ms() + c->connect_timeout_ms;
    struct ssh_session *ssh = NULL;
    struct pump pump = {.pair = -1};
    int tcp, pair[2];
    char text[sizeof o->message];

    tcp = dial(c->host, c->port, deadline, link->stop_fd, &o->failure, o->message, sizeof o->message);
    if (tcp == -ECANCELED)
        o->stopped = true;
    if (tcp < 0)
        goto out;
    ssh = ssh_session_new(&sc, tcp);
    if (ssh == NULL) {
        say(o, SSH_FAILED_LOCAL, "out of memory");
        goto out;
    }
    if (!establish(link, ssh, tcp, deadline, o))
        goto out;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        say(o, SSH_FAILED_LOCAL, "cannot open a socketpair: %s", strerror(errno));
        goto out;
    }
    pump = (struct pump){.ssh = ssh, .tcp = tcp, .pair = pair[0], .stop_fd = link->stop_fd};
    link->callbacks.on_connected(link->callbacks.arg, pair[1]);
    switch (pump_run(&pump)) {
    case PUMP_STOPPED:
        o->stopped = true;
        break;
    case PUMP_CALLER_CLOSED:
        o->silent = true;
        break;
    case PUMP_FAILED:
        say(o, pump.failure, "%s", pump.message);
        break;
    }
    o->proved = pump.n_received > 0;
out:
    if (o->proved)
        link->delay_ms = c->backoff_min_ms;
    *delay_ms_out = o->stopped ? 0 : next_delay(link);
    if (!o->stopped && !o->silent && link->callbacks.on_failed != NULL) {
        snprintf(text, sizeof text, "%s at %s port %u: %.500s", c->name, c->host, c->port, o->message);
        link->callbacks.on_failed(link->callbacks.arg, o->failure, text, *delay_ms_out);
    }
    pump_deinit(&pump);
    ssh_session_free(ssh);
    if (tcp >= 0)
        close(tcp);
}

static void *link_main(void *arg)
{
    struct ssh_link *link = arg;
    uint32_t delay_ms = 0;

    do {
        struct outcome o = {.failure = SSH_FAILED_LOCAL};

        attempt(link, &o, &delay_ms);
        if (o.stopped)
            break;
    } while (wait_delay(link, delay_ms));
    return NULL;
}

static void link_free(struct ssh_link *link)
{
    struct ssh_link_config *c = &link->config;

    free((char *)c->name);
    free((char *)c->host);
    free((char *)c->user);
    free((char *)c->private_key_path);
    free((char *)c->known_hosts_path);
    free((char *)c->command);
    if (link->stop_fd >= 0)
        close(link->stop_fd);
    free(link);
}

static bool copy_config(struct ssh_link_config *to, const struct ssh_link_config *from)
{
    to->name = strdup(from->name);
    to->host = strdup(from->host);
    to->user = strdup(from->user);
    to->private_key_path = strdup(from->private_key_path);
    to->known_hosts_path = strdup(from->known_hosts_path);
    to->command = strdup(from->command != NULL ? from->command : "kvfs-peer");
    to->port = from->port;
    to->connect_timeout_ms = from->connect_timeout_ms > 0 ? from->connect_timeout_ms : 5000;
    to->backoff_min_ms = from->backoff_min_ms > 0 ? from->backoff_min_ms : 100;
    to->backoff_max_ms = from->backoff_max_ms > 0 ? from->backoff_max_ms : 5000;
    if (to->backoff_max_ms < to->backoff_min_ms)
        to->backoff_max_ms = to->backoff_min_ms;
    return to->name != NULL && to->host != NULL && to->user != NULL && to->private_key_path != NULL &&
           to->known_hosts_path != NULL && to->command != NULL;
}

int ssh_link_start(const struct ssh_link_config *config, const struct ssh_link_callbacks *callbacks,
                   struct ssh_link **link_out)
{
    struct ssh_link *link;
    sigset_t all, before;
    int error;

    *link_out = NULL;
    if (config->name == NULL || config->host == NULL || config->port == 0 || config->user == NULL ||
        config->private_key_path == NULL || config->known_hosts_path == NULL ||
        callbacks->on_connected == NULL)
        return -EINVAL;
    error = ssh_session_global_init();
    if (error < 0)
        return error;
    link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->callbacks = *callbacks;
    link->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!copy_config(&link->config, config)) {
        error = -ENOMEM;
        goto fail;
    }
    if (link->stop_fd < 0) {
        error = -EMFILE;
        goto fail;
    }
    link->delay_ms = link->config.backoff_min_ms;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = -pthread_create(&link->thread, NULL, link_main, link);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error < 0)
        goto fail;
    *link_out = link;
    return 0;
fail:
    link_free(link);
    return error;
}

void ssh_link_stop(struct ssh_link *link)
{
    uint64_t one = 1;

    if (link == NULL)
        return;
    while (write(link->stop_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(link->thread, NULL);
    link_free(link);
}

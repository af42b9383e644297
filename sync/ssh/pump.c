/* One turn: take what poll announced, move bytes through the session until
 * neither direction progresses (a read may bring the window adjustment that a
 * write waits for, and a write may queue data that a read has to fetch), send,
 * sleep. A small message costs one poll, one receive and one send.
 *
 * Bounds. Nothing is read from the caller while to_peer is full or the session
 * holds SEND_MAX unsent bytes. The channel is not read while to_caller is full;
 * its window then closes and the peer stops. TCP is received all the same: window
 * adjustments, key exchanges and sshd's keepalives come that way. */
#include "sync/ssh/pump.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/ssh/session.h"

#define QUEUE_MAX ((size_t)256 * 1024)
#define READ_MIN ((size_t)16 * 1024) /* less room than this is not worth a read */
#define SEND_MAX ((size_t)1024 * 1024)
#define CLOSED_LINGER_MS 500
#define HALF_CLOSED_LINGER_MS 10000
#define PEER_ENDED_LINGER_MS 2000

static enum pump_end failed(struct pump *p)
{
    p->failure = ssh_session_failure(p->ssh);
    snprintf(p->message, sizeof p->message, "%s", ssh_session_message(p->ssh));
    return PUMP_FAILED;
}

static void linger(struct pump *p, uint32_t ms)
{
    uint64_t until = clock_boot_ms() + ms;

    if (p->linger_ms == 0 || until < p->linger_ms)
        p->linger_ms = until;
}

static void caller_closed(struct pump *p)
{
    if (p->caller_closed)
        return;
    p->caller_closed = true;
    fifo_consume(&p->to_caller, fifo_used(&p->to_caller));
}

static bool hung_up(int fd)
{
    struct pollfd p = {.fd = fd};

    return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

static bool may_take(const struct pump *p)
{
    return !p->caller_ended && fifo_used(&p->to_peer) < QUEUE_MAX && ssh_session_unsent(p->ssh) < SEND_MAX;
}

/* False: out of memory. */
static bool take_from_caller(struct pump *p)
{
    size_t room = QUEUE_MAX - fifo_used(&p->to_peer);
    uint8_t *space = fifo_reserve(&p->to_peer, room);
    ssize_t n;

    if (space == NULL)
        return false;
    n = recv(p->pair, space, room, 0);
    if (n > 0) {
        fifo_added(&p->to_peer, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        p->caller_ended = true;
        if (n < 0 || hung_up(p->pair))
            caller_closed(p);
        linger(p, p->caller_closed ? CLOSED_LINGER_MS : HALF_CLOSED_LINGER_MS);
    }
    return true;
}

static bool give_to_caller(struct pump *p)
{
    bool moved = false;

    while (!p->caller_closed && fifo_used(&p->to_caller) > 0) {
        ssize_t n = send(p->pair, fifo_head(&p->to_caller), fifo_used(&p->to_caller), MSG_NOSIGNAL);

        if (n > 0) {
            fifo_consume(&p->to_caller, (size_t)n);
            moved = true;
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else if (n < 0 && errno != EINTR) {
            /* What the caller wrote before it closed is still in the pair. */
            caller_closed(p);
        }
    }
    return moved;
}

/* One read of the channel. > 0: moved; 0: nothing; -EPIPE: failed. */
static int read_channel(struct pump *p)
{
    uint8_t *space;
    ssize_t n;

    if (p->peer_ended)
        return 0;
    if (QUEUE_MAX - fifo_used(&p->to_caller) < READ_MIN)
        return ssh_session_process(p->ssh);
    space = fifo_reserve(&p->to_caller, QUEUE_MAX - fifo_used(&p->to_caller));
    if (space == NULL)
        return -ENOMEM;
    n = ssh_session_read(p->ssh, space, QUEUE_MAX - fifo_used(&p->to_caller));
    if (n > 0) {
        p->n_received += (uint64_t)n;
        if (!p->caller_closed)
            fifo_added(&p->to_caller, (size_t)n);
        return 1;
    }
    if (n == 0) {
        p->peer_ended = true;
        linger(p, PEER_ENDED_LINGER_MS);
        return 1;
    }
    return n == -EAGAIN ? 0 : -EPIPE;
}

/* Through the session, until nothing moves. 0 or a negative errno. */
static int move(struct pump *p)
{
    bool moved;

    do {
        int rc;

        moved = false;
        if (fifo_used(&p->to_peer) > 0 && ssh_session_unsent(p->ssh) < SEND_MAX) {
            ssize_t n = ssh_session_write(p->ssh, fifo_head(&p->to_peer), fifo_used(&p->to_peer));

            if (n > 0) {
                fifo_consume(&p->to_peer, (size_t)n);
                moved = true;
            } else if (n != -EAGAIN) {
                /* The channel takes no more; read what it brought before. */
                fifo_consume(&p->to_peer, fifo_used(&p->to_peer));
            }
        }
        rc = read_channel(p);
        if (rc < 0)
            return rc;
        if (rc > 0)
            moved = true;
        if (give_to_caller(p))
            moved = true;
    } while (moved);
    if (p->caller_ended && !p->eof_told && fifo_used(&p->to_peer) == 0 && !p->peer_ended)
        p->eof_told = ssh_session_write_eof(p->ssh) != -EAGAIN;
    return 0;
}

static void prepare(const struct pump *p, struct pollfd fds[3])
{
    bool take = may_take(p), give = !p->caller_closed && fifo_used(&p->to_caller) > 0;

    fds[0] = (struct pollfd){.fd = p->tcp};
    fds[0].events =
        (short)((ssh_session_receives(p->ssh) ? POLLIN : 0) | (ssh_session_unsent(p->ssh) > 0 ? POLLOUT : 0));
    if ((fds[0].events & POLLIN) == 0)
        fds[0].fd = -1;
    /* A pair of which nothing is wanted is left out: its hang-up would be
     * reported for ever. After a half-close the hang-up is what is wanted. */
    fds[1] = (struct pollfd){.fd = p->pair};
    fds[1].events = (short)((take ? POLLIN : 0) | (give ? POLLOUT : 0));
    if (fds[1].events == 0 && (!p->caller_ended || p->caller_closed))
        fds[1].fd = -1;
    fds[2] = (struct pollfd){.fd = p->stop_fd, .events = POLLIN};
}

/* Whether it is over although nothing failed. */
static bool is_over(struct pump *p, enum pump_end *end_out)
{
    bool late = p->linger_ms != 0 && clock_boot_ms() >= p->linger_ms;

    if (p->peer_ended && (ssh_session_ended(p->ssh) || late)) {
        if (p->caller_ended) {
            *end_out = PUMP_CALLER_CLOSED;
            return true;
        }
        *end_out = failed(p);
        if (!ssh_session_ended(p->ssh)) {
            p->failure = SSH_FAILED_REMOTE_ENDED;
            snprintf(p->message, sizeof p->message, "the peer closed its side of the stream");
        }
        return true;
    }
    *end_out = PUMP_CALLER_CLOSED;
    return p->caller_ended && late;
}

enum pump_end pump_run(struct pump *p)
{
    struct pollfd fds[3] = {{.revents = 0}};
    enum pump_end end;

    for (;;) {
        int timeout = -1, rc;
        ssize_t sent;

        rc = move(p);
        sent = ssh_session_send(p->ssh);
        if (rc == 0 && is_over(p, &end))
            return end;
        if (rc == -ENOMEM) {
            p->failure = SSH_FAILED_LOCAL;
            snprintf(p->message, sizeof p->message, "out of memory");
            return PUMP_FAILED;
        }
        if (rc < 0)
            return p->caller_ended ? PUMP_CALLER_CLOSED : failed(p);
        if (sent < 0 && ssh_session_receive(p->ssh) <= 0) {
            /* Nothing more can be sent, and nothing is left to receive. */
            p->failure = SSH_FAILED_LOST;
            snprintf(p->message, sizeof p->message, "the connection broke: %s", strerror((int)-sent));
            return p->caller_ended ? PUMP_CALLER_CLOSED : PUMP_FAILED;
        }
        if (sent < 0)
            continue;
        prepare(p, fds);
        if (p->linger_ms != 0) {
            uint64_t now = clock_boot_ms();

            timeout = now < p->linger_ms ? (int)(p->linger_ms - now) : 0;
        }
        if (poll(fds, 3, timeout) <= 0)
            continue;
        if (fds[2].revents != 0)
            return PUMP_STOPPED;
        if (fds[0].revents != 0)
            ssh_session_receive(p->ssh);
        if (fds[1].revents & POLLHUP && p->caller_ended && !p->caller_closed) {
            caller_closed(p);
            linger(p, CLOSED_LINGER_MS);
        }
        if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && may_take(p) && !take_from_caller(p)) {
            p->failure = SSH_FAILED_LOCAL;
            snprintf(p->message, sizeof p->message, "out of memory");
            return PUMP_FAILED;
        }
    }
}

void pump_deinit(struct pump *p)
{
    uint64_t deadline = clock_boot_ms() + CLOSED_LINGER_MS, now;

    if (p->pair < 0)
        return;
    while (give_to_caller(p), !p->caller_closed && fifo_used(&p->to_caller) > 0) {
        struct pollfd fds[2] = {{.fd = p->pair, .events = POLLOUT}, {.fd = p->stop_fd, .events = POLLIN}};

        now = clock_boot_ms();
        if (now >= deadline || (poll(fds, 2, (int)(deadline - now)) > 0 && fds[1].revents != 0))
            break;
    }
    close(p->pair);
    p->pair = -1;
    fifo_deinit(&p->to_peer);
    fifo_deinit(&p->to_caller);
}

/* Figures of one link through a real sshd on loopback: round trip, throughput,
 * reconnecting. Run by hand; prints one line each. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "tests/unit/ssh/fixture.h"

#define N_ROUNDS 20000
#define MESSAGE 100
#define BULK ((size_t)1024 * 1024 * 1024)

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double cpu_s(int who)
{
    struct rusage u;

    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_times(const char *what, uint64_t *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, by_value);
    printf("%s: p50 %.1f us, p90 %.1f us, p99 %.1f us, max %.1f us\n", what, (double)ns[n / 2] / 1e3,
           (double)ns[n * 9 / 10] / 1e3, (double)ns[n * 99 / 100] / 1e3, (double)ns[n - 1] / 1e3);
}

static void round_trips(int fd)
{
    static uint64_t ns[N_ROUNDS];
    char message[MESSAGE] = "x";

    for (int i = 0; i < N_ROUNDS; i++) {
        uint64_t start = clock_boot_ns();

        write_all(fd, message, sizeof message);
        read_exactly(fd, message, sizeof message);
        ns[i] = clock_boot_ns() - start;
    }
    print_times("round trip of 100 B", ns, N_ROUNDS);
}

/* Two small messages with a pause between them, as a busy sender makes: a side
 * that waits for acknowledgements (Nagle, RFC 896) shows here as 40 ms. */
static void trains(int fd)
{
    enum { N = 500 };
    static uint64_t ns[N];
    char message[MESSAGE] = "x", reply[5 * MESSAGE];

    for (int i = 0; i < N; i++) {
        uint64_t start = clock_boot_ns();

        for (int j = 0; j < 5; j++) {
            write_all(fd, message, sizeof message);
            for (uint64_t until = clock_boot_ns() + 20000; clock_boot_ns() < until;)
                ;
        }
        read_exactly(fd, reply, sizeof reply);
        ns[i] = clock_boot_ns() - start - 5 * 20000;
    }
    print_times("rest of a train of 5 messages", ns, N);
}

static void pipelined(int fd)
{
    static char out[64 * 1024], in[64 * 1024];
    const size_t total = (size_t)300000 * MESSAGE;
    size_t sent = 0, got = 0;
    uint64_t start = clock_boot_ns();

    while (got < total) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < total ? POLLOUT : 0))};
        ssize_t n;

        poll(&p, 1, WAIT_MS);
        if (p.revents & POLLIN && (n = recv(fd, in, sizeof in, MSG_DONTWAIT)) > 0)
            got += (size_t)n;
        for (int i = 0; i < 20 && sent < total && (p.revents & POLLOUT); i++)
            if ((n = send(fd, out, MESSAGE, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
                sent += (size_t)n;
    }
    printf("pipelined echo of 100 B messages, a send each: %.0f/s\n",
           (double)(total / MESSAGE) / ((double)(clock_boot_ns() - start) / 1e9));
}

static void echo_bulk(int fd)
{
    static char out[256 * 1024], in[256 * 1024];
    const size_t total = BULK / 4;
    size_t sent = 0, got = 0;
    uint64_t start = clock_boot_ns();
    double s;

    while (got < total) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < total ? POLLOUT : 0))};
        ssize_t n;

        poll(&p, 1, WAIT_MS);
        if (p.revents & POLLIN && (n = recv(fd, in, sizeof in, MSG_DONTWAIT)) > 0)
            got += (size_t)n;
        if (p.revents & POLLOUT && (n = send(fd, out, sizeof out, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
            sent += (size_t)n;
    }
    s = (double)(clock_boot_ns() - start) / 1e9;
    printf("echo, both ways at once: %.0f MB/s each way\n", (double)total / 1e6 / s);
}

static void from_peer(int fd)
{
    static char in[256 * 1024];
    uint64_t start = clock_boot_ns();
    double cpu = cpu_s(RUSAGE_SELF), s;
    size_t got = 0;

    while (got < BULK) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        poll(&p, 1, WAIT_MS);
        n = recv(fd, in, sizeof in, MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
    }
    s = (double)(clock_boot_ns() - start) / 1e9;
    printf("from the peer: %.0f MB/s, %.2f CPU-s/GB in this process\n", (double)got / 1e6 / s,
           (cpu_s(RUSAGE_SELF) - cpu) / ((double)got / 1e9));
}

static void reconnects(struct fixture *f, int fd)
{
    enum { N = 20 };
    static uint64_t ns[N];
    char c;

    for (int i = 0; i < N; i++) {
        uint64_t start;

        /* A byte, so that the delay begins anew. */
        write_all(fd, "x", 1);
        read_exactly(fd, &c, 1);
        start = clock_boot_ns();
        node_drop(&f->node);
        read_to_end(fd);
        close(fd);
        fd = fixture_expect_connected(f);
        write_all(fd, "x", 1);
        read_exactly(fd, &c, 1);
        ns[i] = clock_boot_ns() - start;
    }
    close(fd);
    print_times("closed by the peer, to the first byte echoed again (100 ms delay in it)", ns, N);
}

int main(void)
{
    struct fixture *f = fixture_new(NULL);
    uint64_t start = clock_boot_ns();
    struct ssh_link *link = fixture_link(f);
    int fd = fixture_expect_connected(f);
    char c;

    setvbuf(stdout, NULL, _IOLBF, 0);
    write_all(fd, "x", 1);
    read_exactly(fd, &c, 1);
    printf("first connection, to the first byte echoed: %.1f ms\n", (double)(clock_boot_ns() - start) / 1e6);
    round_trips(fd);
    trains(fd);
    pipelined(fd);
    echo_bulk(fd);
    node_set_mode(&f->node, NODE_SOURCE);
    write_all(fd, "x", 1);
    from_peer(fd);
    node_set_mode(&f->node, NODE_ECHO);
    close(fd);
    reconnects(f, fixture_expect_connected(f));
    ssh_link_stop(link);
    fixture_free(f);
    return 0;
}

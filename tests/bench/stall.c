/* How long a node's loop keeps somebody waiting: stall NODE SECONDS. Asks for a
 * local read of a key that does not exist, one after the other with a pause of
 * 200 us, and prints how long the answers took. What else the machine does counts
 * too, so compare with a run in which the node does nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/base/error.h"
#include "sync/wire/client.h"

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    const struct timespec pause = {.tv_nsec = 200000};
    const size_t max = 10000000;
    double *took = malloc(max * sizeof *took), until;
    char path[108];
    struct client_node node;
    struct client *c;
    size_t n = 0;

    if (argc != 3 || took == NULL || client_socket_path(argv[1], path, sizeof path) != 0 ||
        client_open(path, CLIENT_ADMIN, "stall", 0, 10000, &c, &node) != 0) {
        fprintf(stderr, "usage: stall NODE SECONDS\n");
        return 1;
    }
    until = now_ms() + atof(argv[2]) * 1e3;
    while (now_ms() < until && n < max) {
        struct cursor answer;
        const union request_body request = {.resolve = {.at = READ_LOCAL, .path = bytes_text("no/such/key")}};
        double begin = now_ms();
        int rc;

        client_ask(c, MESSAGE_RESOLVE, n + 1, &request);
        rc = client_call(c, n + 1, 30000, &answer, NULL, 0);
        if (rc != KV_E_NOENT) {
            fprintf(stderr, "%s: %d\n", argv[1], rc);
            return 1;
        }
        took[n++] = now_ms() - begin;
        nanosleep(&pause, NULL);
    }
    qsort(took, n, sizeof *took, compare);
    printf("%s: %zu answers: p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, longest %.3f ms\n", argv[1], n,
           took[n / 2], took[n - 1 - n / 100], took[n - 1 - n / 1000], took[n - 1]);
    client_close(c);
    free(took);
    return 0;
}

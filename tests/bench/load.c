/* Fills a cluster with keys: load NODE KEYS SIZE. Sets bench/D/K with 1,000 keys a
 * directory, 256 requests outstanding, each acknowledged by a majority's fsync.
 * Prints what it took. For measurements of memory, restart and listing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/base/error.h"
#include "sync/wire/client.h"

#define OUTSTANDING 256

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void ask(struct client *c, uint64_t i, const uint8_t *value, size_t size)
{
    char path[64];
    struct command_body body = {.flags = SET_PARENTS, .mode = 0644, .value = value, .value_len = size};
    struct command cmd = {.op = COMMAND_SET};
    struct buffer encoded = BUFFER_INIT, *out;

    snprintf(path, sizeof path, "bench/%05llu/key%09llu", (unsigned long long)(i / 1000),
             (unsigned long long)i);
    body.path = (const uint8_t *)path;
    body.path_len = strlen(path);
    command_body_encode(&encoded, COMMAND_SET, &body);
    cmd.body = encoded.data;
    cmd.body_len = encoded.len;
    out = client_queue(c, MESSAGE_WRITE, i + 1);
    body_encode_request(out, MESSAGE_WRITE, NULL);
    command_encode(out, &cmd);
    client_queue_end(c);
    buffer_deinit(&encoded);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000, asked = 0, done = 0;
    size_t size = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    uint8_t *value = malloc(size + 1);
    char path[128];
    struct client *c;
    double t;

    if (argc < 2 || value == NULL || client_socket_path(argv[1], path, sizeof path) != 0)
        return 2;
    if (client_open(path, CLIENT_ADMIN, "load", 0, 5000, &c, NULL) != 0) {
        fprintf(stderr, "load: %s does not answer\n", path);
        return 1;
    }
    t = now();
    while (done < keys) {
        union answer_body answer;
        struct cursor body;
        struct frame frame;
        int rv;

        while (asked < keys && asked - done < OUTSTANDING) {
            memset(value, 'a' + (int)(asked % 26), size);
            if (size >= sizeof asked)
                memcpy(value, &asked, sizeof asked);
            ask(c, asked++, value, size);
        }
        rv = client_wait(c, 20000, &frame);
        if (rv < 0 || (rv = client_answer(&frame, &body, NULL, 0)) != 0) {
            fprintf(stderr, "load: %s\n", rv > 0 ? error_text(rv) : strerror(-rv));
            return 1;
        }
        if (!body_decode_answer(MESSAGE_WRITE, &body, &answer) || answer.write.code != KV_OK) {
            fprintf(stderr, "load: %s\n", error_text(answer.write.code));
            return 1;
        }
        done++;
    }
    t = now() - t;
    printf("{\"op\":\"load\",\"keys\":%llu,\"size\":%zu,\"ops_per_s\":%.0f}\n", (unsigned long long)keys,
           size, (double)keys / t);
    client_close(c);
    free(value);
    return 0;
}

/* A client of the next feature level (built with KVFS_NEXT_LEVEL):
 *
 *   next_write SOCKET NAME VALUE     COMMAND_NEXT: sets a setting. Prints the code. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sync/base/error.h"
#include "sync/wire/client.h"

#define TIMEOUT_MS 20000

int main(int argc, char **argv)
{
    struct command cmd = {.op = COMMAND_NEXT, .flags = COMMAND_TRUSTED};
    struct command_body body = {0};
    union answer_body answer;
    struct client_node node;
    struct client *c;
    struct cursor in;
    struct buffer *b;
    int rc;

    if (argc != 4)
        return 2;
    rc = client_open(argv[1], CLIENT_ADMIN, "next", 0, TIMEOUT_MS, &c, &node);
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], rc < 0 ? strerror(-rc) : error_text(rc));
        return 1;
    }
    body.name = (const uint8_t *)argv[2];
    body.name_len = strlen(argv[2]);
    body.value = (const uint8_t *)argv[3];
    body.value_len = strlen(argv[3]);
    b = client_queue(c, MESSAGE_WRITE, 1);
    body_encode_request(b, MESSAGE_WRITE, NULL);
    command_encode(b, &cmd);
    command_body_encode(b, cmd.op, &body);
    client_queue_end(c);
    rc = client_call(c, 1, TIMEOUT_MS, &in, NULL, 0);
    if (rc == 0)
        rc = body_decode_answer(MESSAGE_WRITE, &in, &answer) ? answer.write.code : -1;
    client_close(c);
    printf("%d\n", rc);
    return rc == 0 ? 0 : 1;
}

/* What client.c (the clients) and request_way.c (their requests, at the node and on
 * the way) share. Not for others. */
#ifndef KVFS_TESTS_SIM_WHOLE_CLIENT_H
#define KVFS_TESTS_SIM_WHOLE_CLIENT_H

#include "tests/sim/whole/whole.h"

struct client {
    int id, host;
    bool sessionless;
    uint64_t session, seq;
    uint8_t nonce[16];
    struct op *op;    /* NULL: idle, or registering */
    bool registering; /* the session is being asked for */
    bool doubt;       /* an attempt may have been executed */
    unsigned tries, tries_max;
    uint64_t attempt; /* answers to others are ignored */
    uint64_t floor;   /* what was acknowledged to anybody before this read */
    /* The command. */
    uint8_t command;
    struct buffer body;
    size_t piece, part, n_parts; /* a body in parts: n_parts before the last piece */
    int64_t think, timeout;
    struct known known[N_OBJECTS];
};

struct answer {
    struct client *client;
    uint64_t attempt;
    int code;
    bool has_result;
    struct command_result result;
    uint64_t content, applied;
    struct attr attr;
};

/* request_way.c: sends c's request, as it stands, to its host. The answer comes to
 * client_answered(), or never. */
void request_send(struct client *c);
void requests_free(void);

/* client.c: frees the answer. */
happening client_answered;

#endif

/* Connections that keep to no protocol. */
#ifndef KVFS_TESTS_FAULT_RAW_H
#define KVFS_TESTS_FAULT_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/body.h"

/* A non-blocking connection, or -1. */
int raw_open(const char *socket_path);
/* Writes what the socket takes within the time; the bytes written. */
size_t raw_send(int fd, const void *data, size_t len, unsigned timeout_ms);
/* Reads and throws away until the other side closes; false: it did not in that time. */
bool raw_closed(int fd, unsigned timeout_ms);
/* Reads all that comes until it is silent for quiet_ms or closes; bytes. */
size_t raw_drain(int fd, unsigned quiet_ms);
/* Reads so many bytes and throws them away; false: they did not come in that time. */
bool raw_takes(int fd, size_t len, unsigned timeout_ms);
/* A valid HELLO of a client. */
void raw_hello(struct buffer *b);
/* A frame whose payload is given. */
void raw_frame(struct buffer *b, uint8_t type, uint64_t id, const void *payload, size_t len);
/* One valid frame of that request with harmless fields; false: there is no such type. */
bool raw_request(struct buffer *b, uint8_t type, uint64_t session, uint64_t seq);
/* One valid WRITE of that command. */
void raw_command(struct buffer *b, uint8_t op, uint64_t session, uint64_t seq);

/* A reproducible source of numbers. */
struct dice {
    uint64_t state;
};
/* The seed is $KVFS_FAULT_SEED or new, and printed. */
void dice_init(struct dice *d, const char *what);
uint64_t dice_roll(struct dice *d, uint64_t n); /* 0 … n - 1 */

#endif

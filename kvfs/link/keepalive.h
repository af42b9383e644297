/* The session of an idle mount lives on: a KEEPALIVE well before the cluster's session_timeout is over, which
 * the mount asks for when it has connected, and again when somebody changes a setting. */
#ifndef KVFS_KVFS_LINK_KEEPALIVE_H
#define KVFS_KVFS_LINK_KEEPALIVE_H

#include <stddef.h>
#include <stdint.h>

struct hub;

/* ms until the next one is due, for that session_timeout; 0: it is not known. Pure. */
uint64_t keepalive_interval_ms(uint64_t session_timeout_ms);
/* session_timeout in an answer to SETTINGS, in ms; 0: it is not there. Pure. */
uint64_t keepalive_parse(const void *json, size_t len);
/* A setting was changed. */
void keepalive_ask(struct hub *hub);
/* Asks, and sends what is due. Node thread. */
void keepalive_tick(struct hub *hub, uint64_t now_ms);

#endif

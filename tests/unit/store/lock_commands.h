/* Commands about locks, for tests of tables that a session has for itself. */
#ifndef KVFS_TESTS_UNIT_STORE_LOCK_COMMANDS_H
#define KVFS_TESTS_UNIT_STORE_LOCK_COMMANDS_H

#include "tests/unit/store/world.h"

/* A command of the session, which has the answers to all before it. The result's code. */
int lock_send_as(struct world *w, uint64_t session, uint64_t seq, uint8_t op,
                 const struct command_body *body);
int lock_send(struct world *w, uint64_t session, uint8_t op, const struct command_body *body);
struct command_body lock_of(uint64_t ino, uint8_t kind, uint64_t owner, uint8_t flags, uint64_t start,
                            uint64_t end, uint64_t ticket);
int lock_put_back(struct world *w, uint64_t session, uint64_t ino, uint64_t epoch,
                  const struct lock_put *locks, size_t n);
/* A new session. */
uint64_t lock_join(struct world *w, const char *nonce);
/* "[session] ?2x": the session that has the table, who is in it, who waits. Static. */
const char *lock_list(const struct world *w, uint64_t ino);

#endif

/* A good state from another node, in place of a damaged state.db. Asks for it,
 * again if it does not come; a leader, whom nobody can give one, hands over first.
 * The file comes and is put in force as for any laggard (incoming.h). Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_HEAL_H
#define KVFS_KVNODE_GROUP_HEAL_H

#include <stdint.h>

struct group;

/* In struct group; zeros at the start. */
struct heal {
    uint64_t ask_at;   /* when to ask the leader again */
    uint64_t pause_ms; /* mending: between two questions; 0 when a file was put in force */
};

/* Every heartbeat while AWAITED (condition.h): state.db is damaged, and the log does
 * not reach back to the beginning. Nothing is applied, nobody is served. */
void heal_state(struct group *g, uint64_t now_ms);
/* Every heartbeat while MENDING: state.db is damaged, memory is not,
 * and the node goes on serving until all of a good file is there. */
void heal_file(struct group *g, uint64_t now_ms);

#endif

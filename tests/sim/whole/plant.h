/* Bugs that can be planted into the simulated layers. */
#ifndef KVFS_TESTS_SIM_WHOLE_PLANT_H
#define KVFS_TESTS_SIM_WHOLE_PLANT_H

enum plant {
    PLANT_NONE,
    PLANT_EARLY_ACK,   /* log.db says durable before it is */
    PLANT_LOST_VOTE,   /* a crash takes the newest term and vote with it */
    PLANT_EARLY_TRIM,  /* state.db says durable when it is only flushed */
    PLANT_LOST_RETRY,  /* a change of leadership is not told to the writes */
    PLANT_LOST_FRAME,  /* a link drops frames and stays up */
    PLANT_APPLY_TWICE, /* a state file is newer than its label, and entries are applied again */
    PLANT_LOST_PARTS,  /* a state file lacks the parts of unfinished commands */
    PLANT_NO_SESSION,  /* a repeated number counts as a new one */
    PLANT_STALE_READ,  /* a read does not ask the leader */
    PLANT_LOCAL_CLOCK, /* apply looks at the clock of its node */
    PLANT_LOST_RESULT, /* after a change of leader, a result does not reach who waits for it */
    PLANT_DOOR_OPEN,   /* a node that has gone back takes part, one that lost its log founds again */
    PLANT_ANY_CLOCK,   /* the leader sets the time back to its own clock, whatever the others say */
    PLANT_NO_WAIT,     /* a read under a lease does not wait for what is under way and changes it */
    PLANT_HALF_TXN,    /* of a transaction only a part is done */
    PLANT_NO_EXPIRY,   /* leaders propose nothing of what is over */
    PLANT_OLD_FENCE,   /* a fence lets everybody through */
    PLANT_SHORT_LOCK,  /* locks are taken before their time */
    PLANT_STILL_CLOCK, /* read leases, and machines whose clock stands still while others' run */
    PLANT_EMPTY_PUT,   /* a mount gives a lock table back without what it has locked in it */
    PLANT_OLD_SESSION, /* a mount decides in its table although its session may have ended */
    PLANT_COUNT
};
/* The names that --plant takes, in the order above. */
extern const char *const plant_names[PLANT_COUNT];

#endif

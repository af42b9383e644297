/* Records of a batch: u8 kind, then by kind. `ids` is u32 n and n × u64: the
 * chunks of a value, 0 for a hole, and behind them that of the extended attributes if the row
 * has any. In this order they lead from the state before
 * to the state of the batch; chunks are stored first. */
#ifndef KVFS_KVNODE_STATE_JOURNAL_RECORD_H
#define KVFS_KVNODE_STATE_JOURNAL_RECORD_H

#include <stdint.h>

/* In the place of the number of ids. A file with many names has as many rows for one change. */
#define RECORD_VALUE_AGAIN UINT32_MAX

enum record_kind {
    RECORD_INODE = 1,         /* inode_row, ids */
    RECORD_INODE_GONE = 2,    /* u64 ino */
    RECORD_ENTRY = 3,         /* entry_row */
    RECORD_ENTRY_GONE = 4,    /* u64 directory, string name */
    RECORD_HISTORY = 5,       /* history_row, ids; or RECORD_VALUE_AGAIN: those of the record before */
    RECORD_HISTORY_GONE = 6,  /* u64 directory, string name, u64 revision: its rows from that on */
    RECORD_SESSION = 7,       /* session_row */
    RECORD_SESSION_GONE = 8,  /* u64 id: its results and parts too */
    RECORD_RESULT = 9,        /* u64 session, u64 seq, string command_result */
    RECORD_RESULTS_GONE = 10, /* u64 session, u64 below */
    RECORD_PART = 11,         /* u64 session, u64 seq, u32 number, string bytes */
    RECORD_PARTS_GONE = 12,   /* u64 session, u64 seq */
    RECORD_SETTING = 13,      /* string name, string value */
    RECORD_SETTING_GONE = 14, /* string name */
    RECORD_CHUNK_GONE = 15,   /* u64 id */
    RECORD_HISTORY_DROP = 17, /* u64 directory, string name, u64 revision: its rows up to that, and the chunks
                                 that only they used; behind all rows that tell which chunks are used */
    RECORD_LOCK = 24,         /* lock_row */
    RECORD_LOCK_GONE = 25,    /* u64 ino, u8 kind, u64 session, u64 owner, u64 start, u64 wait */
    RECORD_FENCE = 26,        /* u64 ino, u64 revision, u64 wall_ns, u8 exclusive */
    RECORD_FENCE_GONE = 27,   /* u64 ino */
    RECORD_META = 16, /* u64 wall_ns, u64 elapsed_ms, u64 next_ino, u64 next_number; always the last */
};

#endif

/* A node made of a thread and a script, and a mount without a kernel that is connected to it:
 * each test says what the node does with each write, and looks at what it was sent. */
#ifndef KVFS_TESTS_UNIT_KVFS_FAKE_NODE_H
#define KVFS_TESTS_UNIT_KVFS_FAKE_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvfs/ops/fs.h"

#define WRITES_MAX 64
#define FILE_INO 77

/* What the node does with a write. */
enum act {
    ACT_DONE,
    ACT_HANG_UP,
    ACT_UNAVAILABLE,
    ACT_SESSION,
    ACT_SILENT,
    ACT_REFUSE,
    ACT_FULL,
    ACT_NO_ROOM, /* the cluster, not this node's disk */
    ACT_TOO_LARGE,
    ACT_FORBIDDEN,
    ACT_OTHER_VERSION,
    ACT_BUSY,
    ACT_WAIT, /* answered when the test says so */
};

struct fake_node {
    char path[108];
    int listener;
    pthread_t thread;
    enum act acts[WRITES_MAX]; /* for the first, second, … write; then ACT_DONE */
    uint64_t last_session;
    /* What it saw. */
    struct command writes[WRITES_MAX];
    struct command_body bodies[WRITES_MAX]; /* of publications; what they borrow is gone */
    unsigned n_writes, n_registered;
    uint64_t waiting; /* id of the write that waits for its answer */
    int waiting_fd;
    /* An event that a new connection finds it has missed: of this write's publication. */
    int missed;    /* its place in writes, or -1 */
    uint64_t room; /* that it has to give */
    uint64_t size; /* of the file, in the answers to publications */
    unsigned n_reserves;
    const char *settings; /* borrowed; the answer to SETTINGS, or NULL: none */
    /* Of the file, in order: O opened, W published, C closed, H it hung up. */
    char trace[64];
    atomic_uint n_connections;
    uint64_t subscribed_after;
    atomic_bool stop;
};

struct fixture {
    struct fake_node node;
    struct options options;
    struct fs fs;
    pthread_cond_t answered;
    int code;
    unsigned n_answers;
};

/* The one that there is. Its node reads and writes it with fs.lock held. */
extern struct fixture *fake_fixture;

/* For cmocka: one node, one with read=local, one that is met under two names. */
int fake_setup(void **state);
int fake_setup_local(void **state);
int fake_setup_two(void **state);
int fake_teardown(void **state);

void fake_set_timeout(struct fixture *f, unsigned ms);
/* An answer of the node's, with the lock held. */
void fake_send_result(int fd, uint64_t id, const struct command_result *result);
/* Counts the answer, keeps its code and ends the call. */
void fake_on_answer(struct call *call, int code, const union answer_body *answer);
/* Starts a write that is no publication. */
void fake_start_write(struct fixture *f);
/* Waits for n answers in all; the last one's code. */
int fake_wait_answers(struct fixture *f, unsigned n);
/* Waits until the node has seen n writes. */
void fake_wait_writes(struct fixture *f, unsigned n);

/* With the lock held: a file that the kernel knows; something is written to it; close(2). */
struct file *fake_file(struct fixture *f, uint64_t ino);
void fake_stage_text(struct fixture *f, struct file *file, const char *text);
void fake_wait_for_file(struct fixture *f, uint64_t ino);
/* Without it: all of that for FILE_INO. */
void fake_start_publication(struct fixture *f, const char *text);
bool fake_is_dirty(struct fixture *f);
void fake_wait_clean(struct fixture *f);

#endif

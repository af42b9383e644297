#include "tests/fault/chaos_clients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

struct cluster *cluster;
struct shared *shared;
struct history *history;
struct watch *watch;

void violation(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    shared->violations++;
    fprintf(stderr, "# VIOLATION: %s\n", text);
}

/* Odd keys may be set in place by callers, so they keep one length: a reader may
 * meet an in-place change between two pages. */
static size_t value_len(struct worker *w, unsigned key)
{
    if (key % 2 == 1)
        return VALUE_SMALL;
    return dice_roll(&w->dice, 6) == 0 ? 65536 + dice_roll(&w->dice, VALUE_MAX - 65536)
                                       : VALUE_SMALL + dice_roll(&w->dice, 3000);
}

static unsigned any_key(struct worker *w)
{
    return shared->generation * KEYS + (unsigned)dice_roll(&w->dice, KEYS);
}

/* What a call on the mount may fail with while nodes fail. */
static enum outcome outcome_of(struct worker *w, const char *what, unsigned key, int err, int harmless)
{
    if (err == 0)
        return OUTCOME_OK;
    if (err == EIO)
        return OUTCOME_UNKNOWN;
    if (err == ESTALE)
        shared->stale++;
    else if (err != EROFS && err != harmless && !watch->hung)
        violation("worker %u: %s of key %u: %s", w->n, what, key, strerror(err));
    return OUTCOME_NONE;
}

/* ---- programs on a mount ---- */

/* Every system call between a pair of these is watched. */
#define CALL(w, result, call, ...)                                                                           \
    do {                                                                                                     \
        watch_enter((w)->slot, __VA_ARGS__);                                                                 \
        (result) = (call);                                                                                   \
        watch_leave((w)->slot);                                                                              \
    } while (0)

/* Another program starts, and inherits what is not closed on exec, also from the
 * other threads. */
static void run_true(struct worker *w)
{
    int status = 0;
    pid_t pid;

    watch_enter(w->slot, "a program is started (%s)", w->path);
    pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(9);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        violation("/bin/true: status %d", status);
    watch_leave(w->slot);
    shared->programs++;
}

static int write_all(struct worker *w, int fd, const char *data, size_t len, const char *path)
{
    while (len > 0) {
        size_t piece = len > 50000 ? 50000 : len;
        ssize_t n;

        CALL(w, n, write(fd, data, piece), "write %s", path);
        if (n <= 0)
            return n < 0 ? errno : EIO;
        data += n;
        len -= (size_t)n;
        if (dice_roll(&w->dice, 24) == 0)
            run_true(w);
    }
    return 0;
}

/* A new file with this value, closed. An errno. */
static int write_file(struct worker *w, const char *path, int flags, uint64_t value, size_t len)
{
    static __thread char data[VALUE_MAX];
    int fd, err, rv;

    flags |= dice_roll(&w->dice, 2) == 0 ? O_CLOEXEC : 0;
    CALL(w, fd, open(path, O_WRONLY | O_CREAT | flags, 0644), "open %s to write", path);
    if (fd < 0)
        return errno;
    value_fill(value, data, len);
    err = write_all(w, fd, data, len, path);
    if (err == 0 && dice_roll(&w->dice, 8) == 0) {
        CALL(w, rv, fsync(fd), "fsync %s", path);
        err = rv != 0 ? errno : 0;
    }
    CALL(w, rv, close(fd), "close %s", path);
    return err != 0 ? err : rv != 0 ? errno : 0;
}

static bool replace(struct worker *w, unsigned key, const char *path)
{
    char temporary[128];
    uint64_t value = history_value(history);
    int err, rv, token;
    enum outcome outcome;

    snprintf(temporary, sizeof temporary, "%s/chaos/t%u-%u", w->path, w->n, w->temporaries++);
    err = write_file(w, temporary, O_EXCL, value, value_len(w, key));
    if (err != 0) {
        outcome_of(w, "a temporary file", key, err, 0);
        CALL(w, rv, unlink(temporary), "unlink %s", temporary);
        return false;
    }
    token = history_call(history, key, w->n, LINEAR_SET, value);
    if (token < 0)
        return false;
    CALL(w, rv, rename(temporary, path), "rename %s over %s", temporary, path);
    err = rv != 0 ? errno : 0;
    outcome = outcome_of(w, "rename", key, err, 0);
    history_answer(history, key, token, outcome, err, 0);
    return outcome == OUTCOME_OK;
}

/* Length, or -errno. */
static ssize_t read_file(struct worker *w, const char *path, char *data, size_t size)
{
    size_t len = 0;
    ssize_t n = 1;
    int fd, rv, err = 0, flags = dice_roll(&w->dice, 2) == 0 ? O_CLOEXEC : 0;

    CALL(w, fd, open(path, O_RDONLY | flags), "open %s", path);
    if (fd < 0)
        return -errno;
    while (n > 0 && len < size) {
        CALL(w, n, read(fd, data + len, size - len), "read %s", path);
        if (n < 0)
            err = errno;
        len += n > 0 ? (size_t)n : 0;
    }
    CALL(w, rv, close(fd), "close %s (read)", path);
    if (rv != 0 && !watch->hung)
        violation("worker %u: close of %s: %s", w->n, path, strerror(errno));
    return err != 0 ? -err : (ssize_t)len;
}

bool look(struct worker *w, unsigned key, const char *path)
{
    static __thread char data[VALUE_MAX + 1];
    uint64_t value, content = LINEAR_EMPTY;
    int token = history_call(history, key, w->n, LINEAR_READ, 0);
    enum outcome outcome;
    ssize_t len;

    if (token < 0)
        return false;
    len = read_file(w, path, data, sizeof data);
    outcome = outcome_of(w, "reading", key, len < 0 ? (int)-len : 0, ENOENT);
    if (len > 0 && value_is(data, (size_t)len, &value))
        content = history_content(value);
    else if (len > 0)
        violation("worker %u: key %u: %zd bytes are no whole value: %.26s", w->n, key, len, data);
    history_answer(history, key, token, outcome, len < 0 ? (int)-len : 0, content);
    return outcome == OUTCOME_OK || len == -ENOENT;
}

static bool make(struct worker *w, unsigned key, const char *path)
{
    int token = history_call(history, key, w->n, LINEAR_CREATE, 0), fd, rv, err;
    bool close_on_exec = dice_roll(&w->dice, 2) == 0;
    enum outcome outcome;

    if (token < 0)
        return false;
    CALL(w, fd, open(path, O_WRONLY | O_CREAT | O_EXCL | (close_on_exec ? O_CLOEXEC : 0), 0644), "create %s",
         path);
    err = fd < 0 ? errno : 0;
    outcome = outcome_of(w, "O_EXCL", key, err, EEXIST);
    history_answer(history, key, token, outcome, err, 0);
    if (err != 0)
        return err == EEXIST;
    if (dice_roll(&w->dice, 2) == 0)
        run_true(w);
    CALL(w, rv, close(fd), "close %s (new)", path);
    if (rv != 0 && !watch->hung)
        violation("worker %u: close of %s: %s", w->n, path, strerror(errno));
    return true;
}

static bool take_away(struct worker *w, unsigned key, const char *path)
{
    int token = history_call(history, key, w->n, LINEAR_DELETE, 0), rv, err;
    enum outcome outcome;

    if (token < 0)
        return false;
    CALL(w, rv, unlink(path), "unlink %s", path);
    err = rv != 0 ? errno : 0;
    outcome = outcome_of(w, "unlink", key, err, ENOENT);
    history_answer(history, key, token, outcome, err, 0);
    return outcome == OUTCOME_OK || err == ENOENT;
}

static bool do_on_mount(struct worker *w)
{
    unsigned key = any_key(w);
    char path[128];

    snprintf(path, sizeof path, "%s/chaos/k%u", w->path, key);
    switch (dice_roll(&w->dice, 10)) {
    case 0:
        return make(w, key, path);
    case 1:
        return take_away(w, key, path);
    case 2:
    case 3:
    case 4:
    case 5:
        return replace(w, key, path);
    default:
        return look(w, key, path);
    }
}

/* ---- callers ---- */

static enum outcome outcome_of_answer(struct worker *w, const char *what, unsigned key, int rv)
{
    if (rv == 0)
        return OUTCOME_OK;
    if (rv == KV_E_NOENT)
        return OUTCOME_REFUSED;
    if (rv != -ETIMEDOUT)
        violation("worker %u: %s of key %u: %d", w->n, what, key, rv);
    return OUTCOME_UNKNOWN;
}

bool ask_for(struct worker *w, struct caller *c, unsigned key, const char *name)
{
    int token = history_call(history, key, w->n, LINEAR_READ, 0), rv;
    struct buffer data = BUFFER_INIT;
    uint64_t value, content = LINEAR_EMPTY;
    enum outcome outcome;
    struct attr attr;

    if (token < 0)
        return false;
    rv = caller_get_all(c, name, CALLER_MS, &attr, &data);
    outcome = outcome_of_answer(w, "reading", key, rv);
    if (rv == KV_E_NOENT) {
        outcome = OUTCOME_OK;
        content = LINEAR_ABSENT;
    } else if (rv == 0 && data.len > 0) {
        if (value_is((const char *)data.data, data.len, &value))
            content = history_content(value);
        else
            violation("worker %u: key %u: %zu bytes are no whole value", w->n, key, data.len);
    }
    history_answer(history, key, token, outcome, rv, content);
    buffer_deinit(&data);
    return outcome == OUTCOME_OK;
}

static bool do_as_caller(struct worker *w, struct caller *c)
{
    unsigned key = any_key(w);
    bool sets = key % 2 == 1 && dice_roll(&w->dice, 4) > 0;
    uint64_t value = history_value(history);
    struct command_result result;
    char name[64], data[VALUE_SMALL];
    struct command_body body = {.path = (const uint8_t *)name};
    enum outcome outcome;
    int token, rv;

    snprintf(name, sizeof name, "chaos/k%u", key);
    if (dice_roll(&w->dice, 2) == 0)
        return ask_for(w, c, key, name);
    token = history_call(history, key, w->n, sets ? LINEAR_SET : LINEAR_DELETE, value);
    if (token < 0)
        return false;
    body.path_len = strlen(name);
    value_fill(value, data, sizeof data);
    rv = sets ? caller_set(c, name, data, sizeof data, CALLER_MS, &result)
              : caller_write(c, COMMAND_DEL, &body, CALLER_MS, &result);
    outcome = outcome_of_answer(w, sets ? "set" : "delete", key, rv);
    history_answer(history, key, token, outcome, rv, 0);
    return outcome != OUTCOME_UNKNOWN;
}

void *work(void *arg)
{
    struct worker *w = arg;
    struct caller c;

    if (w->path == NULL) {
        caller_init(&c, cluster, w->n % cluster->n);
        while (!shared->stop && caller_register(&c, CALLER_MS) != 0)
            ;
    }
    while (!shared->stop) {
        if (w->path != NULL ? do_on_mount(w) : do_as_caller(w, &c))
            shared->acknowledged[w->n]++;
        pause_ms((unsigned)dice_roll(&w->dice, 12));
    }
    if (w->path == NULL)
        caller_deinit(&c);
    return NULL;
}

/* What players do together: numbers counted under a lock, records appended to one file, names that only one
 * of them may make. All of them are processes of one machine, so that who has a lock is known besides by
 * memory that they share, and what may be read by what was acknowledged there before. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/look_again.h"
#include "tests/mount/race/players.h"

#define ARRIVE_MS 300
#define SOON_MS 1000

/* ---- locks ---- */

#define DIGITS 8

static const char *const kinds[COUNTERS] = {"flock", "fcntl", "ofd"};

static void note(const struct player *p, struct counter *c, const char *what, int64_t number)
{
    c->events[c->n_events++ % EVENTS_MAX] =
        (struct lock_event){.at = notes_now(), .player = p->n, .what = what, .number = number};
}

/* With what had been done to that lock. */
__attribute__((format(printf, 2, 3))) static void lock_violation(struct counter *c, const char *fmt, ...)
{
    char text[384];
    unsigned n = c->n_events;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    violation(FAULT_LOCK, "%s", text);
    if (race->quiet || race->found[FAULT_LOCK] > 3)
        return;
    for (unsigned i = n > 40 ? n - 40 : 0; i < n; i++) {
        const struct lock_event *e = &c->events[i % EVENTS_MAX];

        fprintf(stderr, "#   %.6f player %2u on mount %u: %s %" PRId64 "\n", (double)e->at / 1e9, e->player,
                e->player / CREW, e->what, e->number);
    }
}

static int range(int fd, int how, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET};

    return fcntl(fd, how, &l);
}

/* An errno. */
static int take(struct player *p, enum counted_by kind, int fd, bool shared, bool wait)
{
    short type = shared ? F_RDLCK : F_WRLCK;
    int rv;

    if (kind == BY_FLOCK)
        CALL(p, rv, flock(fd, (shared ? LOCK_SH : LOCK_EX) | (wait ? 0 : LOCK_NB)), "flock");
    else if (kind == BY_FCNTL)
        CALL(p, rv, range(fd, wait ? F_SETLKW : F_SETLK, type), "F_SETLK");
    else
        CALL(p, rv, range(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, type), "F_OFD_SETLK");
    return rv != 0 ? errno : 0;
}

static int leave(struct player *p, enum counted_by kind, int fd)
{
    int rv;

    if (kind == BY_FLOCK)
        CALL(p, rv, flock(fd, LOCK_UN), "flock LOCK_UN");
    else
        CALL(p, rv, range(fd, kind == BY_OFD ? F_OFD_SETLK : F_SETLK, F_UNLCK), "F_UNLCK");
    return rv != 0 ? errno : 0;
}

/* -1: it could not be read. */
static int64_t number(struct player *p, int fd, const char *path, int *err_out)
{
    char text[DIGITS + 1] = "", *end;
    uint64_t n;
    ssize_t len;

    CALL(p, len, pread(fd, text, DIGITS, 0), "pread %s", path);
    *err_out = len < 0 ? errno : 0;
    if (len < 0)
        return -1;
    n = strtoul(text, &end, 10);
    if (len != 0 && (len != DIGITS || end != text + DIGITS)) {
        violation(FAULT_DATA, "player %u: %s is no number: %s", p->n, path, text);
        return -1;
    }
    return (int64_t)n;
}

static bool is_known(const struct counter *c, int64_t n, uint64_t from)
{
    return (uint64_t)n >= from && (uint64_t)n <= c->attempted;
}

/* Reads the number, and writes the next one. Holding the lock, as it believes; the outcome of the number that
 * was written, 0: none. */
static uint64_t count(struct player *p, struct counter *c, int fd, const char *path,
                      enum outcome *outcome_out)
{
    uint64_t acknowledged = c->acknowledged;
    char text[DIGITS + 1];
    int err;
    int64_t n = number(p, fd, path, &err);
    ssize_t len;

    *outcome_out = outcome_of(p, "reading", path, err, 0);
    note(p, c, "read under it", n);
    if (n < 0)
        return 0;
    if (!is_known(c, n, acknowledged))
        lock_violation(c, "player %u: %s is %" PRId64 " under the lock, %" PRIu64 " was acknowledged", p->n,
                       path, n, acknowledged);
    n++;
    if ((uint64_t)n > c->attempted)
        c->attempted = (uint64_t)n;
    snprintf(text, sizeof text, "%08" PRId64, n % 100000000);
    CALL(p, len, pwrite(fd, text, DIGITS, 0), "pwrite %s", path);
    err = len == DIGITS ? 0 : len < 0 ? errno : ENOSPC;
    *outcome_out = outcome_of(p, "writing", path, err, 0);
    note(p, c, err == 0 ? "wrote" : "failed to write", n);
    return (uint64_t)n;
}

static void look_shared(struct player *p, struct counter *c, int fd, const char *path)
{
    uint64_t acknowledged;
    int64_t n;
    int err;

    c->readers++;
    if (c->owner != 0)
        lock_violation(c, "player %u has %s shared while player %u has it alone", p->n, path, c->owner - 1);
    acknowledged = c->acknowledged;
    n = number(p, fd, path, &err);
    note(p, c, "read under it, shared", n);
    if (outcome_of(p, "reading", path, err, 0) == OUTCOME_OK && n >= 0 && !is_known(c, n, acknowledged))
        violation(FAULT_LOCK,
                  "player %u: %s is %" PRId64 " under the shared lock, %" PRIu64 " was acknowledged", p->n,
                  path, n, acknowledged);
    c->readers--;
    c->shared++;
}

static void look_alone(struct player *p, enum counted_by kind, int fd, const char *path)
{
    struct counter *c = &race->counters[kind];
    unsigned other = atomic_exchange(&c->owner, p->n + 1), readers = c->readers;
    enum outcome outcome;
    uint64_t n;
    int err;

    if (other != 0 || readers != 0)
        lock_violation(c, "player %u has %s alone, and so has player %d, and %u shared", p->n, path,
                       (int)other - 1, readers);
    n = count(p, c, fd, path, &outcome);
    /* From the unlock on somebody else may have it. */
    other = p->n + 1;
    if (!atomic_compare_exchange_strong(&c->owner, &other, 0))
        lock_violation(c, "player %u had %s alone, and then player %d", p->n, path, (int)other - 1);
    note(p, c, "unlocks", (int64_t)n);
    err = leave(p, kind, fd);
    note(p, c, err == 0 ? "has unlocked" : "failed to unlock", err);
    if (n == 0 || outcome_of(p, "unlocking", path, err, 0) != OUTCOME_OK || outcome != OUTCOME_OK)
        return;
    c->locked++;
    for (uint64_t was = c->acknowledged; was < n && !atomic_compare_exchange_weak(&c->acknowledged, &was, n);)
        ;
}

void play_locks(struct player *p)
{
    enum counted_by kind = (enum counted_by)dice_roll(&p->dice, COUNTERS);
    bool shared = dice_roll(&p->dice, 4) == 0, wait = dice_roll(&p->dice, 3) != 0;
    const char *path = at(p, "count-%s", kinds[kind]);
    int fd, err;

    CALL(p, fd, open(path, O_RDWR | O_CLOEXEC), "open %s", path);
    if (fd < 0) {
        outcome_of(p, "open", path, errno, 0);
        return;
    }
    note(p, &race->counters[kind], shared ? "asks, shared" : "asks", wait);
    err = take(p, kind, fd, shared, wait);
    note(p, &race->counters[kind], err == 0 ? "has it" : "does not get it", err);
    if (outcome_of(p, "locking", path, err, wait ? 0 : EAGAIN) == OUTCOME_REFUSED)
        race->counters[kind].refused++;
    if (err == 0 && shared) {
        look_shared(p, &race->counters[kind], fd, path);
        err = leave(p, kind, fd);
        note(p, &race->counters[kind], "has unlocked what was shared", err);
    } else if (err == 0) {
        look_alone(p, kind, fd, path);
    }
    err = shut(p, fd, path);
    note(p, &race->counters[kind], "has closed", err);
    if (err != 0)
        outcome_of(p, "close", path, err, 0);
}

void check_counters(struct player *p)
{
    for (int kind = 0; kind < COUNTERS; kind++) {
        struct counter *c = &race->counters[kind];
        const char *path = at(p, "count-%s", kinds[kind]);
        int fd, err;
        int64_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : number(p, fd, path, &err);
        if (fd >= 0)
            close(fd);
        if (n < 0 || !is_known(c, n, c->acknowledged))
            lock_violation(c, "%s is %" PRId64 " in the end, %" PRIu64 " was acknowledged", path, n,
                           (uint64_t)c->acknowledged);
    }
}

/* ---- records ---- */

#define PAGE ((size_t)4096)
#define HEAD 26 /* of value_fill(): the value, the length */
#define LOG_MAX ((size_t)MOUNTS * RECORDS_MAX * RECORD_MAX + 1)

static uint64_t record_of(unsigned player, unsigned n)
{
    return (uint64_t)(player + 1) << 32 | n;
}

static void append(struct player *p, const char *path)
{
    unsigned n = race->records[p->n];
    size_t len = VALUE_SMALL + dice_roll(&p->dice, RECORD_MAX - VALUE_SMALL);
    bool wrong = race->planted[p->mount];
    char record[RECORD_MAX];
    ssize_t written;
    int fd, err;

    if (n == RECORDS_MAX)
        return;
    CALL(p, fd, open(path, O_WRONLY | O_CLOEXEC | (wrong ? 0 : O_APPEND)), "open %s to append", path);
    if (fd < 0) {
        outcome_of(p, "open", path, errno, 0);
        return;
    }
    if (wrong)
        lseek(fd, 0, SEEK_END);
    race->records[p->n] = n + 1;
    value_fill(record_of(p->n, n), record, len);
    CALL(p, written, write(fd, record, len), "append to %s", path);
    err = written == (ssize_t)len ? 0 : written < 0 ? errno : ENOSPC;
    written = shut(p, fd, path);
    if (outcome_of(p, "appending", path, err != 0 ? err : (int)written, 0) == OUTCOME_OK) {
        race->kept[p->n][n] = 1;
        race->appended++;
    }
}

/* One record at data; 0: it is none. */
static size_t take_record(const char *data, size_t left, uint64_t *value_out)
{
    char head[HEAD + 1] = "";
    size_t len;

    if (left < VALUE_SMALL)
        return 0;
    memcpy(head, data, HEAD);
    len = strtoul(head + 17, NULL, 16);
    return len >= VALUE_SMALL && len <= left && value_is(data, len, value_out) ? len : 0;
}

/* Without a lease a page may be older than the length that the kernel has learnt meanwhile: then it has zeros
 * from the old length on. */
static bool is_zeros_without_lease(const char *data, size_t pos, size_t len)
{
    size_t end = (pos / PAGE + 1) * PAGE;

    for (size_t i = pos; i < len && i < end; i++)
        if (data[i] != '\0')
            return false;
    return race->faults;
}

static uint8_t must[PLAYERS][RECORDS_MAX], seen[PLAYERS][RECORDS_MAX];

/* The whole file; bytes, or -errno. */
static ssize_t read_log(struct player *p, const char *path, char *data)
{
    size_t len = 0;
    ssize_t n = 1;
    int fd, err;

    CALL(p, fd, open(path, O_RDONLY | O_CLOEXEC), "open %s", path);
    err = fd < 0 ? errno : 0;
    while (err == 0 && n > 0 && len < LOG_MAX) {
        CALL(p, n, read(fd, data + len, LOG_MAX - len), "read %s", path);
        err = n < 0 ? errno : 0;
        len += n > 0 ? (size_t)n : 0;
    }
    shut(p, fd, path);
    return err != 0 ? -err : (ssize_t)len;
}

/* Which records are there. False: one is torn. */
static bool take_records(struct player *p, const char *path, const char *data, size_t len)
{
    size_t record;
    uint64_t value;

    memset(seen, 0, sizeof seen);
    for (size_t pos = 0; pos < len; pos += record) {
        unsigned player, k;

        record = take_record(data + pos, len - pos, &value);
        player = (unsigned)(value >> 32) - 1;
        k = (unsigned)value;
        if (record == 0 && is_zeros_without_lease(data, pos, len)) {
            race->zeros++;
            return false;
        }
        if (record == 0 || player >= PLAYERS || k >= RECORDS_MAX) {
            violation(FAULT_APPEND, "player %u: %s has a torn record at %zu of %zu: %.26s", p->n, path, pos,
                      len, data + pos);
            return false;
        }
        if (seen[player][k]++ > 0)
            violation(FAULT_APPEND, "player %u: record %u of player %u is there twice", p->n, k, player);
    }
    return true;
}

/* Of which player one is missing; PLAYERS: none is. */
static unsigned missing_record(unsigned *k_out)
{
    for (unsigned i = 0; i < PLAYERS; i++)
        for (*k_out = 0; *k_out < RECORDS_MAX; ++*k_out)
            if (must[i][*k_out] && !seen[i][*k_out])
                return i;
    return PLAYERS;
}

/* Every record is whole and there once, and so is each that was acknowledged before the file was opened.
 * While nodes fail the kernel may go by an old length once more, if a second walk brings none that it takes
 * (operations_open.c): then it has to be there soon. */
static void read_records(struct player *p, const char *path)
{
    static char *data;
    uint64_t until = 0;
    unsigned player, k;
    bool whole, again = false;
    ssize_t len;

    if (data == NULL && (data = malloc(LOG_MAX)) == NULL)
        abort();
    for (unsigned i = 0; i < PLAYERS; i++)
        for (k = 0; k < RECORDS_MAX; k++)
            must[i][k] = race->kept[i][k];
    do {
        len = read_log(p, path, data);
        if (outcome_of(p, "reading", path, len < 0 ? (int)-len : 0, 0) != OUTCOME_OK)
            return;
        race->logs_read++;
        whole = take_records(p, path, data, (size_t)len);
        player = whole ? missing_record(&k) : PLAYERS;
        race->old += player < PLAYERS && !again && race->faults;
        again = player < PLAYERS && race->faults;
    } while (again && look_again(&until, SOON_MS));
    if (player < PLAYERS)
        violation(FAULT_APPEND, "player %u: record %u of player %u was acknowledged and is not there", p->n,
                  k, player);
}

void play_records(struct player *p)
{
    const char *path = at(p, "records");

    if (dice_roll(&p->dice, 3) > 0)
        append(p, path);
    else
        read_records(p, path);
}

void check_records(struct player *p)
{
    read_records(p, at(p, "records"));
}

/* ---- one winner ---- */

static bool all_there(struct exclusive *x)
{
    return x->arrived == MOUNTS || !race->playing;
}

/* The players of all mounts make the same name at the same moment. Who has been answered knows that it is
 * there. */
void play_exclusive(struct player *p)
{
    unsigned k = race->exclusive_at[p->mount];
    struct exclusive *x = &race->exclusive[k < EXCLUSIVE_MAX ? k : 0];
    const char *path = at(p, "one-%u", k);
    enum outcome outcome;
    uint64_t until = 0;
    struct stat st;
    int fd, rv;

    if (k >= EXCLUSIVE_MAX) {
        look_again(&until, 100);
        return;
    }
    race->exclusive_at[p->mount] = k + 1;
    if (++x->arrived == MOUNTS)
        x->go = notes_now() + 1000000;
    while (!all_there(x) && look_again(&until, ARRIVE_MS))
        ;
    while (x->go != 0 && notes_now() < x->go)
        ;
    CALL(p, fd, open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create %s", path);
    outcome = outcome_of(p, "creating", path, fd < 0 ? errno : 0, EEXIST);
    x->won += outcome == OUTCOME_OK;
    x->unknown += outcome == OUTCOME_UNKNOWN || outcome == OUTCOME_NONE;
    x->answered++;
    shut(p, fd, path);
    if (outcome != OUTCOME_OK && outcome != OUTCOME_REFUSED)
        return;
    CALL(p, rv, stat(path, &st), "stat %s", path);
    if (outcome_of(p, "stat", path, rv != 0 ? errno : 0, ENOENT) == OUTCOME_REFUSED)
        violation(FAULT_MISSING, "player %u: %s is missing after %s", p->n, path,
                  outcome == OUTCOME_OK ? "it was made" : "it was said to be there");
}

void check_exclusive(void)
{
    for (unsigned k = 0; k < EXCLUSIVE_MAX && race->exclusive[k].answered > 0; k++) {
        const struct exclusive *x = &race->exclusive[k];

        if (x->won > 1 || (x->won == 0 && x->unknown == 0))
            violation(FAULT_NAME, "one-%u was made %u times, %u asked, %u unknown", k, x->won, x->answered,
                      x->unknown);
        race->created_once += x->won == 1 && x->answered == MOUNTS;
    }
}

/* ---- */

static bool make(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    return fd >= 0 && close(fd) == 0;
}

bool together_prepare(struct player *p)
{
    for (int kind = 0; kind < COUNTERS; kind++) {
        struct counter *c = &race->counters[kind];

        c->owner = c->readers = 0;
        c->acknowledged = c->attempted = 0;
        if (!make(at(p, "count-%s", kinds[kind])))
            return false;
    }
    for (unsigned i = 0; i < PLAYERS; i++) {
        race->records[i] = 0;
        for (unsigned k = 0; k < RECORDS_MAX; k++)
            race->kept[i][k] = 0;
    }
    for (unsigned k = 0; k < EXCLUSIVE_MAX; k++) {
        struct exclusive *x = &race->exclusive[k];

        x->arrived = x->answered = x->won = x->unknown = 0;
        x->go = 0;
    }
    for (unsigned m = 0; m < MOUNTS; m++)
        race->exclusive_at[m] = 0;
    return make(at(p, "records"));
}

/* What programs do with locks, for locks.sh: one verb a process.
 *
 *   count FILE N KIND          N times: lock, read the number in it, write the next one, unlock
 *   beside FILE LOCK N         the same, FILE open all the time and LOCK locked
 *   loop FILE KIND N KIND N    N times: lock, unlock; prints how often
 *   hold FILE KIND [START LEN] locks, prints "held", unlocks when its input ends
 *   try FILE KIND [START LEN]  "got it", or why not
 *   alarm FILE KIND            waits, with a signal after half a second: "interrupted" or "got it"
 *   test FILE                  F_GETLK: "free", or "exclusive START LEN PID"
 *   ask FILE                   locks, unlocks, prints "held"; after a byte of input as test, or why not
 *   circle FILE HALF           locks its half, waits for a byte of input, then locks the other half, waiting
 *   fenced FILE                locks, prints "held"; after a byte of input writes, syncs, closes; prints all
 * three
 *   table FILE                 SQLite: makes the table
 *   check FILE                 SQLite: the number of its rows, and what its check says
 *   rows FILE NAME N           SQLite: N rows in transactions of their own; prints those that were
 * acknowledged sql FILE STATEMENTS        SQLite: what they give, or why not stay FILE STATEMENTS       the
 * same, then prints "held" and closes when its input ends */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/time.h>
#include <unistd.h>

#include <sqlite3.h>

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int range(int fd, int how, short type, off_t start, off_t len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return fcntl(fd, how, &l);
}

static int take(int fd, const char *kind, bool wait, off_t start, off_t len)
{
    if (strcmp(kind, "flock") == 0)
        return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    if (strcmp(kind, "shared") == 0)
        return flock(fd, LOCK_SH | (wait ? 0 : LOCK_NB));
    if (strcmp(kind, "ofd") == 0)
        return range(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, F_WRLCK, start, len);
    if (strcmp(kind, "read") == 0)
        return range(fd, wait ? F_SETLKW : F_SETLK, F_RDLCK, start, len);
    return range(fd, wait ? F_SETLKW : F_SETLK, F_WRLCK, start, len);
}

static int leave(int fd, const char *kind, off_t start, off_t len)
{
    if (strcmp(kind, "flock") == 0 || strcmp(kind, "shared") == 0)
        return flock(fd, LOCK_UN);
    return range(fd, strcmp(kind, "ofd") == 0 ? F_OFD_SETLK : F_SETLK, F_UNLCK, start, len);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0644);

    if (fd < 0)
        die(path);
    return fd;
}

static void await_input(void)
{
    char c;

    while (read(0, &c, 1) < 0 && errno == EINTR)
        ;
}

static void say(const char *text)
{
    printf("%s\n", text);
    fflush(stdout);
}

static void next(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    if (n < 0)
        die("read");
    snprintf(text, sizeof text, "%08ld\n", n > 0 ? strtol(text, NULL, 10) + 1 : 1);
    if (pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
        die("write");
}

static void count(const char *path, const char *lock, int n, const char *kind)
{
    int fd = open_file(path), by = strcmp(lock, path) == 0 ? fd : open_file(lock);

    for (int i = 0; i < n; i++) {
        if (take(by, kind, true, 0, 0) < 0)
            die("lock");
        next(fd);
        if (leave(by, kind, 0, 0) < 0)
            die("unlock");
    }
}

static int loop(int fd, const char *kind, int n)
{
    for (int i = 0; i < n; i++)
        if (take(fd, kind, true, 0, 0) < 0 || leave(fd, kind, 0, 0) < 0)
            die("lock");
    return n;
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void with_alarm(const char *path, const char *kind)
{
    struct sigaction act = {.sa_handler = on_alarm};
    struct itimerval half = {.it_value = {.tv_usec = 500000}};
    int fd = open_file(path);

    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &half, NULL);
    if (take(fd, kind, true, 0, 0) == 0)
        say("got it");
    else
        say(errno == EINTR ? "interrupted" : strerror(errno));
}

static void test(int fd)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &l) < 0)
        die("F_GETLK");
    if (l.l_type == F_UNLCK)
        say("free");
    else
        printf("%s %lld %lld %d\n", l.l_type == F_WRLCK ? "exclusive" : "shared", (long long)l.l_start,
               (long long)l.l_len, (int)l.l_pid);
}

static void ask(const char *path)
{
    int fd = open_file(path);

    if (loop(fd, "fcntl", 1) != 1)
        die("lock");
    say("held");
    await_input();
    test(fd);
}

static void circle(const char *path, int half)
{
    int fd = open_file(path);

    if (take(fd, "fcntl", true, half * 10, 10) < 0)
        die("lock");
    say("held");
    await_input();
    if (take(fd, "fcntl", true, (1 - half) * 10, 10) == 0)
        say("got it");
    else
        say(errno == EDEADLK ? "deadlock" : strerror(errno));
}

static void fenced(const char *path)
{
    int fd = open_file(path), written, synced, closed;

    if (take(fd, "flock", true, 0, 0) < 0)
        die("lock");
    say("held");
    await_input();
    written = write(fd, "stale", 5) < 0 ? errno : 0;
    synced = fsync(fd) < 0 ? errno : 0;
    closed = close(fd) < 0 ? errno : 0;
    printf("%d %d %d\n", written, synced, closed);
}

static void rows(const char *path, const char *name, int n)
{
    sqlite3 *db;
    char sql[128];
    int done = 0;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        exit(1);
    sqlite3_busy_timeout(db, 30000);
    for (int i = 0; i < n; i++) {
        char *error = NULL;

        snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; INSERT INTO t VALUES('%s-%d'); COMMIT", name, i);
        if (sqlite3_exec(db, sql, NULL, NULL, &error) == SQLITE_OK) {
            done++;
        } else {
            fprintf(stderr, "%s\n", error);
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        }
        sqlite3_free(error);
    }
    sqlite3_close(db);
    printf("%d\n", done);
}

static int print_text(void *arg, int n, char **values, char **names)
{
    (void)n;
    (void)names;
    printf("%s%s", *(int *)arg != 0 ? " " : "", values[0]);
    *(int *)arg += 1;
    return 0;
}

static int run_sql(const char *path, const char *sql, int busy_ms, bool stay)
{
    sqlite3 *db;
    int printed = 0, rc = sqlite3_open(path, &db);

    sqlite3_busy_timeout(db, busy_ms);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, print_text, &printed, NULL);
    if (rc != SQLITE_OK)
        fprintf(stderr, "%s\n", sqlite3_errmsg(db));
    if (printed > 0)
        printf("\n");
    if (stay) {
        say("held");
        await_input();
    }
    sqlite3_close(db);
    return rc == SQLITE_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";
    off_t start = argc > 5 ? atol(argv[4]) : 0, len = argc > 5 ? atol(argv[5]) : 0;

    if (strcmp(verb, "count") == 0 && argc == 5) {
        count(path, path, atoi(argv[3]), argv[4]);
    } else if (strcmp(verb, "beside") == 0 && argc == 5) {
        count(path, argv[3], atoi(argv[4]), "flock");
    } else if (strcmp(verb, "loop") == 0 && argc == 7) {
        int fd = open_file(path);

        printf("%d\n", loop(fd, argv[3], atoi(argv[4])) + loop(fd, argv[5], atoi(argv[6])));
    } else if (strcmp(verb, "hold") == 0 && argc >= 4) {
        if (take(open_file(path), argv[3], true, start, len) < 0)
            die("lock");
        say("held");
        await_input();
    } else if (strcmp(verb, "try") == 0 && argc >= 4) {
        say(take(open_file(path), argv[3], false, start, len) == 0 ? "got it" : strerror(errno));
    } else if (strcmp(verb, "alarm") == 0 && argc == 4) {
        with_alarm(path, argv[3]);
    } else if (strcmp(verb, "test") == 0) {
        test(open_file(path));
    } else if (strcmp(verb, "ask") == 0) {
        ask(path);
    } else if (strcmp(verb, "circle") == 0 && argc == 4) {
        circle(path, atoi(argv[3]));
    } else if (strcmp(verb, "fenced") == 0) {
        fenced(path);
    } else if (strcmp(verb, "table") == 0) {
        return run_sql(path, "CREATE TABLE t(x TEXT)", 30000, false);
    } else if (strcmp(verb, "check") == 0) {
        return run_sql(path, "SELECT count(DISTINCT x) FROM t; PRAGMA integrity_check", 30000, false);
    } else if (strcmp(verb, "sql") == 0 && argc == 4) {
        return run_sql(path, argv[3], 300, false);
    } else if (strcmp(verb, "stay") == 0 && argc == 4) {
        return run_sql(path, argv[3], 300, true);
    } else if (strcmp(verb, "rows") == 0 && argc == 5) {
        rows(path, argv[3], atoi(argv[4]));
    } else {
        fprintf(stderr, "see the head of locks.c\n");
        return 2;
    }
    return 0;
}

/* Names that others replace, move and make again without pause, on two mounts of one cluster: an operation
 * by path never ends in ESTALE, and a name that is always there is never missing.
 *
 *   churn A B ROUNDS
 *
 * One process for each of the things below, each ROUNDS times; those who change the names go on until the
 * others are done. Then records are appended by processes on both: none is torn. Prints TAP. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ERRNOS = 160, MAX_WORKERS = 32 };

static const char *mounts[2];
static int rounds;

struct worker {
    const char *name;
    int mount;
    bool changes;                              /* goes on until all others are done */
    void (*once)(struct worker *w, int round); /* one round */
    int allowed;                               /* an errno that may be, 0: none */
    pid_t pid;
    unsigned long done, failed[ERRNOS]; /* by errno */
    char first[160];
};

static struct shared {
    struct worker workers[MAX_WORKERS];
    unsigned n;
    volatile bool over;
} * shared;

static const char *at(const struct worker *w, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/churn/%s", mounts[w->mount], name);
    return path;
}

static void outcome(struct worker *w, const char *what, bool good)
{
    int error = good ? 0 : errno;

    w->done++;
    if (good || error == w->allowed)
        return;
    w->failed[error < ERRNOS ? error : 0]++;
    if (w->first[0] == '\0')
        snprintf(w->first, sizeof w->first, "%s: %s", what, strerror(error));
}

static bool put(const char *path, int flags, const char *text, const char **what_out)
{
    int fd = open(path, flags, 0644);

    *what_out = "open for writing";
    if (fd < 0)
        return false;
    *what_out = "write";
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        int error = errno;

        close(fd);
        errno = error;
        return false;
    }
    *what_out = "close";
    return close(fd) == 0;
}

static bool get(const char *path, const char **what_out)
{
    char text[64];
    int fd = open(path, O_RDONLY);
    bool good;
    int error;

    *what_out = "open";
    if (fd < 0)
        return false;
    *what_out = "read";
    good = read(fd, text, sizeof text) > 0;
    error = good ? 0 : errno;
    if (!good && error == 0)
        error = ENODATA; /* empty: none of them ever is */
    close(fd);
    errno = error;
    return good;
}

/* ---- those who change ---- */

static void replaces(struct worker *w, int round)
{
    const char *what;
    char tmp[64];
    bool good;

    snprintf(tmp, sizeof tmp, "replaced.%d", w->mount);
    good = put(at(w, tmp), O_WRONLY | O_CREAT | O_TRUNC, "replaced", &what);
    if (good) {
        what = "rename";
        good = rename(at(w, tmp), at(w, "replaced")) == 0;
    }
    outcome(w, what, good);
}

static void moves(struct worker *w, int round)
{
    outcome(w, "rename away", rename(at(w, "moved"), at(w, "elsewhere")) == 0);
    outcome(w, "rename back", rename(at(w, "elsewhere"), at(w, "moved")) == 0);
}

static void moves_directory(struct worker *w, int round)
{
    outcome(w, "rename away", rename(at(w, "directory"), at(w, "other")) == 0);
    outcome(w, "rename back", rename(at(w, "other"), at(w, "directory")) == 0);
}

static void makes_again(struct worker *w, int round)
{
    const char *what;

    outcome(w, "unlink", unlink(at(w, "again")) == 0);
    outcome(w, "again", put(at(w, "again"), O_WRONLY | O_CREAT, "again", &what));
}

/* ---- those who look ---- */

static void reads_replaced(struct worker *w, int round)
{
    const char *what;
    bool good = get(at(w, "replaced"), &what);

    outcome(w, what, good);
}

static void stats_replaced(struct worker *w, int round)
{
    struct stat st;

    outcome(w, "stat", stat(at(w, "replaced"), &st) == 0);
}

static void writes_replaced(struct worker *w, int round)
{
    const char *what;
    bool good = put(at(w, "replaced"), O_WRONLY, "replaced", &what);

    outcome(w, what, good);
}

static void syncs_replaced(struct worker *w, int round)
{
    int fd = open(at(w, "replaced"), O_RDWR);
    const char *what = "open";
    bool good = fd >= 0;

    if (good) {
        what = "write";
        good = write(fd, "replaced", 8) == 8;
    }
    if (good) {
        what = "fsync";
        good = fsync(fd) == 0;
    }
    outcome(w, what, good);
    if (fd >= 0)
        close(fd);
}

static void reads_moved(struct worker *w, int round)
{
    const char *what;
    bool good = get(at(w, "moved"), &what);

    outcome(w, what, good);
}

static void reads_below(struct worker *w, int round)
{
    const char *what;
    bool good = get(at(w, "directory/below"), &what);

    outcome(w, what, good);
}

static void writes_below(struct worker *w, int round)
{
    const char *what;
    bool good = put(at(w, "directory/written"), O_WRONLY | O_CREAT | O_TRUNC, "below", &what);

    outcome(w, what, good);
}

static void opens_or_makes(struct worker *w, int round)
{
    const char *what;
    bool good = put(at(w, "again"), O_WRONLY | O_CREAT, "again", &what);

    outcome(w, what, good);
}

/* Only root can read `secret`, and it is removed and made again without pause: who comes when it is missing
 * may make one of his own, and nothing else. */
#define NOBODY 65534

static void opens_what_is_not_his(struct worker *w, int round)
{
    int fd;
    struct stat st;

    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setegid(NOBODY) != 0 || seteuid(NOBODY) != 0))
        _exit(1);
    fd = open(at(w, "public/secret"), O_RDWR | O_CREAT, 0600);
    if (fd < 0) {
        outcome(w, "open", false);
        return;
    }
    if (fstat(fd, &st) != 0 || st.st_uid != NOBODY)
        errno = EPERM; /* he has what is root's */
    else
        errno = 0;
    outcome(w, "owner", errno == 0);
    close(fd);
}

/* By a descriptor that is no name: the kernel has no other way to walk. */
static void opens_by_descriptor(struct worker *w, int round)
{
    int fd = open(at(w, "replaced"), O_PATH), again;
    char path[64], text[64];

    if (fd < 0) {
        outcome(w, "open", false);
        return;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    again = open(path, round % 2 ? O_RDONLY : O_RDWR);
    outcome(w, "open by descriptor", again >= 0);
    if (again >= 0) {
        errno = 0;
        outcome(w, "read by descriptor", read(again, text, sizeof text) > 0);
        close(again);
    }
    close(fd);
}

/* In a directory that all may write to, what somebody else has made is not opened with O_CREAT. */
#define SOMEBODY 65533

static void become(uid_t uid)
{
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setegid(uid) != 0 || seteuid(uid) != 0))
        _exit(1);
}

static void makes_his_again(struct worker *w, int round)
{
    int fd;

    become(SOMEBODY);
    umask(0);
    unlink(at(w, "sticky/his"));
    fd = open(at(w, "sticky/his"), O_RDWR | O_CREAT | O_EXCL, 0666);
    outcome(w, "create", fd >= 0);
    if (fd >= 0)
        close(fd);
}

static void opens_what_is_protected(struct worker *w, int round)
{
    struct stat st;
    int fd;

    become(NOBODY);
    fd = open(at(w, "sticky/his"), O_RDWR | O_CREAT, 0666);
    if (fd < 0) {
        outcome(w, "open", false);
        return;
    }
    errno = fstat(fd, &st) != 0 || st.st_uid != NOBODY ? EPERM : 0;
    outcome(w, "owner", errno == 0);
    close(fd);
    unlink(at(w, "sticky/his")); /* so that the other one can make it again */
}

static bool is_protected(void)
{
    FILE *f = fopen("/proc/sys/fs/protected_regular", "r");
    int value = 0;
    bool known = f != NULL && fscanf(f, "%d", &value) == 1;

    if (f != NULL)
        fclose(f);
    return known && value > 0;
}

static void makes_secret_again(struct worker *w, int round)
{
    int fd;

    unlink(at(w, "public/secret"));
    fd = open(at(w, "public/secret"), O_RDWR | O_CREAT | O_EXCL, 0600);
    outcome(w, "create", fd >= 0);
    if (fd >= 0)
        close(fd);
}

static void changes_mode(struct worker *w, int round)
{
    outcome(w, "chmod", chmod(at(w, "replaced"), round % 2 ? 0644 : 0600) == 0);
}

/* ---- */

static void add(const char *name, int mount, void (*once)(struct worker *, int), bool changes, int allowed)
{
    struct worker *w = &shared->workers[shared->n++];

    *w = (struct worker){.name = name, .mount = mount, .once = once, .changes = changes, .allowed = allowed};
}

static void work(struct worker *w)
{
    for (int i = 0; w->changes ? !shared->over : i < rounds; i++)
        w->once(w, i);
    _exit(0);
}

static void prepare(void)
{
    struct worker one = {.mount = 0};
    const char *what;
    char path[512];

    snprintf(path, sizeof path, "%s/churn", mounts[0]);
    if (mkdir(path, 0755) != 0 || mkdir(at(&one, "directory"), 0755) != 0 ||
        mkdir(at(&one, "sticky"), 0777) != 0 || chmod(at(&one, "sticky"), 01777) != 0 ||
        mkdir(at(&one, "public"), 0777) != 0 || chmod(at(&one, "public"), 0777) != 0 ||
        !put(at(&one, "replaced"), O_WRONLY | O_CREAT, "replaced", &what) ||
        !put(at(&one, "moved"), O_WRONLY | O_CREAT, "moved", &what) ||
        !put(at(&one, "again"), O_WRONLY | O_CREAT, "again", &what) ||
        !put(at(&one, "directory/below"), O_WRONLY | O_CREAT, "below", &what)) {
        printf("Bail out! %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* ---- appending ---- */

enum { RECORD = 3001, APPENDERS = 4 };

static void append(const char *path, char letter, int records)
{
    char record[RECORD];

    memset(record, letter, RECORD - 1);
    record[RECORD - 1] = '\n';
    for (int i = 0; i < records; i++) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);

        if (fd < 0 || write(fd, record, RECORD) != RECORD || close(fd) != 0) {
            printf("# append: %s\n", strerror(errno));
            fflush(stdout);
            _exit(1);
        }
    }
    _exit(0);
}

/* How many whole records of each there are; false: one is torn. */
static bool whole(const char *path, int *records_out)
{
    FILE *f = fopen(path, "r");
    char line[2 * RECORD + 2];

    *records_out = 0;
    if (f == NULL)
        return false;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strspn(line, (char[]){line[0], '\0'}) != RECORD - 1 || line[RECORD - 1] != '\n') {
            fclose(f);
            return false;
        }
        ++*records_out;
    }
    fclose(f);
    return true;
}

static bool appended(unsigned number)
{
    int records = rounds < 4000 ? rounds : 4000; /* 64 MiB are the longest file */
    bool good = true;
    int status;

    fflush(stdout);

    for (int i = 0; i < APPENDERS; i++)
        if (fork() == 0)
            append(at(&(struct worker){.mount = i % 2}, "records"), (char)('a' + i), records);
    while (wait(&status) > 0)
        good = good && status == 0;
    for (int m = 0; m < 2; m++) {
        int found;
        bool is_whole = whole(at(&(struct worker){.mount = m}, "records"), &found);

        if (!is_whole || found != APPENDERS * records) {
            printf("# on mount %c: %d records%s\n", 'A' + m, found, is_whole ? "" : ", then a torn one");
            good = false;
        }
    }
    printf("%s %u - records that are appended are whole, and none is lost\n", good ? "ok" : "not ok", number);
    return good;
}

static int report(void)
{
    int failed = 0;

    printf("1..%u\n", shared->n + 1);
    for (unsigned i = 0; i < shared->n; i++) {
        struct worker *w = &shared->workers[i];
        unsigned long bad = 0;

        for (int e = 0; e < ERRNOS; e++)
            bad += w->failed[e];
        printf("%s %u - %s on mount %c: %lu times\n", bad == 0 && w->done > 0 ? "ok" : "not ok", i + 1,
               w->name, 'A' + w->mount, w->done);
        for (int e = 0; e < ERRNOS; e++)
            if (w->failed[e] > 0)
                printf("# %lu times %s\n", w->failed[e], strerror(e));
        if (bad > 0)
            printf("# the first: %s\n", w->first);
        failed += bad > 0 || w->done == 0;
    }
    failed += !appended(shared->n + 1);
    return failed != 0;
}

int main(int argc, char **argv)
{
    unsigned lookers = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: churn A B ROUNDS\n");
        return 2;
    }
    mounts[0] = argv[1];
    mounts[1] = argv[2];
    rounds = atoi(argv[3]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    prepare();
    add("replaces a file", 0, replaces, true, 0);
    add("replaces the same one", 1, replaces, true, 0);
    add("moves a file away and back", 0, moves, true, 0);
    add("moves a directory away and back", 0, moves_directory, true, 0);
    add("removes a file and makes it again", 0, makes_again, true, 0);
    if (geteuid() == 0) {
        add("removes a secret and makes it again", 0, makes_secret_again, true, EEXIST);
        add("opens what is not his", 0, opens_what_is_not_his, false, EACCES);
        add("opens what is not his", 1, opens_what_is_not_his, false, EACCES);
    }
    if (geteuid() == 0 && is_protected()) {
        add("makes his again in a sticky directory", 0, makes_his_again, true, EEXIST);
        add("opens what is protected there", 0, opens_what_is_protected, false, EACCES);
        add("opens what is protected there", 1, opens_what_is_protected, false, EACCES);
    }
    for (int m = 0; m < 2; m++) {
        add("reads what is replaced", m, reads_replaced, false, 0);
        add("stats what is replaced", m, stats_replaced, false, 0);
        add("writes what is replaced", m, writes_replaced, false, 0);
        add("syncs what is replaced", m, syncs_replaced, false, 0);
        add("changes the mode of what is replaced", m, changes_mode, false, 0);
        add("reads what is moved", m, reads_moved, false, ENOENT);
        add("reads below what is moved", m, reads_below, false, ENOENT);
        add("makes below what is moved", m, writes_below, false, ENOENT);
        add("opens or makes what is removed", m, opens_or_makes, false, 0);
        add("opens what is replaced by a descriptor", m, opens_by_descriptor, false, 0);
    }
    for (unsigned i = 0; i < shared->n; i++) {
        struct worker *w = &shared->workers[i];
        pid_t pid = fork();

        if (pid == 0)
            work(w);
        w->pid = pid;
        lookers += !w->changes;
    }
    while (lookers > 0) {
        pid_t pid = wait(NULL);

        for (unsigned i = 0; i < shared->n; i++)
            if (shared->workers[i].pid == pid && !shared->workers[i].changes)
                lookers--;
    }
    shared->over = true;
    while (wait(NULL) > 0)
        ;
    return report();
}

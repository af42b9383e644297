/* How a register is written and read, and what each call says of it.
 *
 * A walk along a path is several lookups, but here only its last component but one may change, so the call is
 * an observation of one moment. An open by name is the barrier; what is read then is the opened file's.
 * A listing says of each name whether it was there at some moment of the listing: while it is read, what is
 * renamed may be met twice, or not. What is written in place, or truncated, is seen
 * on the writer's mount before it is published, so the players there do not look at it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/mount/race/players.h"

#define CHASE_NS 8000000
#define WORDS 8 /* of what is written in place: each is the value */
#define REPLACED_MIN 64
#define REPLACED_MAX (REPLACED_MIN + NOTES_MAX + MOUNTS)

static const char *const files[REGISTERS] = {
    [R_REPLACED] = "replaced", [R_SIZE] = "size",       [R_MTIME] = "mtime",
    [R_PLACE] = "place-0",     [R_PLACE_1] = "place-1", [R_PLACE_2] = "place-2"};

/* Name i of a register of names. */
static const char *name_path(const struct player *p, enum register_id r, int i)
{
    switch (r) {
    case R_FILES:
        return at(p, "files/%c", 'a' + i);
    case R_DIRS:
        return at(p, "dirs/%c", 'a' + i);
    case R_APART:
        return at(p, "apart-%d/%c", i, 'a' + i);
    default:
        return at(p, "moved/%c", 'a' + i);
    }
}

static struct note *begin(struct player *p, enum register_id r, enum linear_kind kind, enum how how, int a,
                          int b, uint64_t value)
{
    struct note *note = notes_call(&race->registers[r], kind, how, a, b, value);

    if (note != NULL) {
        note->who = p->n;
        note->mount = p->mount;
    }
    return note;
}

/* The call is over; harmless as outcome_of() has it. */
static enum outcome end(struct player *p, enum register_id r, struct note *note, const char *path, int err,
                        int harmless, uint64_t value)
{
    enum outcome outcome = outcome_of(p, how_name(note->how), path, err, harmless);

    notes_answer(note, outcome, err, value);
    if (outcome == OUTCOME_OK || outcome == OUTCOME_REFUSED)
        race->counts[r][note->how]++;
    if (outcome == OUTCOME_OK && note->how == HOW_WRITE) {
        race->written[r]++;
        syscall(SYS_futex, &race->written[r], FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    return outcome;
}

/* Until somebody's write is acknowledged that was not before, or a moment has passed. */
static bool wait_for_write(enum register_id r, uint32_t before)
{
    const struct timespec moment = {.tv_nsec = CHASE_NS};

    syscall(SYS_futex, &race->written[r], FUTEX_WAIT, before, &moment, NULL, 0);
    return race->written[r] != before;
}

/* ---- one file ---- */

static uint64_t new_value(enum register_id r)
{
    return ++race->values[r] + 1; /* above LINEAR_EMPTY */
}

/* An errno. */
static int write_new(struct player *p, const char *path, const void *data, size_t len)
{
    int fd, err = 0;
    ssize_t n;

    CALL(p, fd, open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create %s", path);
    if (fd < 0)
        return errno;
    CALL(p, n, write(fd, data, len), "write %s", path);
    if (n != (ssize_t)len)
        err = n < 0 ? errno : ENOSPC;
    n = shut(p, fd, path);
    return err != 0 ? err : (int)n;
}

static void write_replaced(struct player *p)
{
    const char *tmp = at(p, "tmp-%u-%u", p->n, p->temporaries++), *path = at(p, "%s", files[R_REPLACED]);
    char data[REPLACED_MAX];
    uint64_t value = new_value(R_REPLACED);
    size_t len = REPLACED_MIN + value;
    struct note *note;
    int rv, err;

    if (len > sizeof data)
        return;
    value_fill(value, data, len);
    err = write_new(p, tmp, data, len);
    if (outcome_of(p, "writing", tmp, err, 0) != OUTCOME_OK)
        return;
    note = begin(p, R_REPLACED, LINEAR_SET, HOW_WRITE, 0, 0, value);
    if (note == NULL)
        return;
    CALL(p, rv, rename(tmp, path), "rename %s over %s", tmp, path);
    end(p, R_REPLACED, note, path, rv != 0 ? errno : 0, 0, 0);
}

static void write_size(struct player *p)
{
    const char *path = at(p, "%s", files[R_SIZE]);
    struct note *note;
    uint64_t value = new_value(R_SIZE);
    int rv;

    note = begin(p, R_SIZE, LINEAR_SET, HOW_WRITE, 0, 0, value);
    if (note == NULL)
        return;
    CALL(p, rv, truncate(path, (off_t)value), "truncate %s", path);
    end(p, R_SIZE, note, path, rv != 0 ? errno : 0, 0, 0);
}

static void write_mtime(struct player *p)
{
    const char *path = at(p, "%s", files[R_MTIME]);
    uint64_t value = new_value(R_MTIME);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000 + (time_t)value}};
    struct note *note = begin(p, R_MTIME, LINEAR_SET, HOW_WRITE, 0, 0, value);
    int rv;

    if (note == NULL)
        return;
    CALL(p, rv, utimensat(AT_FDCWD, path, times, 0), "utimensat %s", path);
    end(p, R_MTIME, note, path, rv != 0 ? errno : 0, 0, 0);
}

/* What it shows between write(2) and close(2) only this mount sees. */
static void write_place(struct player *p, enum register_id r)
{
    const char *path = at(p, "%s", files[r]);
    uint64_t value = new_value(r), words[WORDS];
    struct note *note = begin(p, r, LINEAR_SET, HOW_WRITE, 0, 0, value);
    int fd, err = 0, rv = 0;
    ssize_t n;

    if (note == NULL)
        return;
    for (int i = 0; i < WORDS; i++)
        words[i] = value;
    CALL(p, fd, open(path, O_WRONLY | O_CLOEXEC), "open %s to write", path);
    if (fd < 0) {
        end(p, r, note, path, errno, 0, 0);
        return;
    }
    CALL(p, n, pwrite(fd, words, sizeof words, 0), "pwrite %s", path);
    if (n != sizeof words)
        err = n < 0 ? errno : ENOSPC;
    if (err == 0 && dice_roll(&p->dice, 4) == 0) {
        CALL(p, rv, fsync(fd), "fsync %s", path);
        err = rv != 0 ? errno : 0;
    }
    rv = shut(p, fd, path);
    end(p, r, note, path, err != 0 ? err : rv, 0, 0);
}

/* -errno, or bytes. */
static ssize_t read_all(struct player *p, int fd, const char *path, char *data, size_t size)
{
    size_t len = 0;
    ssize_t n = 1;

    while (n > 0 && len < size) {
        CALL(p, n, read(fd, data + len, size - len), "read %s", path);
        if (n < 0)
            return -errno;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

/* The value, or LINEAR_EMPTY if it is none, which nobody has written. */
static uint64_t value_of(struct player *p, enum register_id r, const char *data, size_t len, const char *how)
{
    const uint64_t *words = (const void *)data;
    uint64_t value = 0;
    bool whole = len == WORDS * sizeof *words;

    if (r == R_REPLACED) {
        whole = value_is(data, len, &value) && len == REPLACED_MIN + value;
    } else {
        for (int i = 0; whole && i < WORDS; i++)
            whole = words[i] == words[0];
        value = whole ? words[0] : 0;
    }
    if (whole)
        return history_content(value);
    violation(FAULT_DATA, "player %u: %s by %s: %zu bytes are not what anybody has written", p->n, files[r],
              how, len);
    return LINEAR_EMPTY;
}

static void read_opened(struct player *p, enum register_id r)
{
    const char *path = at(p, "%s", files[r]);
    _Alignas(8) char data[REPLACED_MAX + 1];
    struct note *note = begin(p, r, LINEAR_READ, HOW_OPEN, 0, 0, 0);
    uint64_t value = LINEAR_ABSENT;
    ssize_t n;
    int fd;

    if (note == NULL)
        return;
    CALL(p, fd, open(path, O_RDONLY | O_CLOEXEC), "open %s", path);
    if (fd < 0) {
        end(p, r, note, path, errno, 0, 0);
        return;
    }
    n = read_all(p, fd, path, data, sizeof data);
    shut(p, fd, path);
    if (n >= 0)
        value = value_of(p, r, data, (size_t)n, "open");
    end(p, r, note, path, n < 0 ? (int)-n : 0, 0, value);
}

/* What attributes say. */
static uint64_t value_shown(enum register_id r, const struct stat *st)
{
    switch (r) {
    case R_REPLACED:
        return history_content((uint64_t)st->st_size - REPLACED_MIN);
    case R_MTIME:
        return history_content((uint64_t)st->st_mtim.tv_sec - 1000000);
    default:
        return history_content((uint64_t)st->st_size);
    }
}

/* As `ls -l`: the listing brings attributes, which stat(2) then shows. */
static void list_before(struct player *p)
{
    const char *path = at(p, "%s", "");
    DIR *dir;
    struct dirent *entry;

    CALL(p, dir, opendir(path), "opendir %s", path);
    if (dir == NULL)
        return;
    do
        CALL(p, entry, readdir(dir), "readdir %s", path);
    while (entry != NULL);
    closedir(dir);
}

static void read_stat(struct player *p, enum register_id r)
{
    const char *path = at(p, "%s", files[r]);
    struct note *note;
    struct stat st;
    int rv;

    if (dice_roll(&p->dice, 8) == 0)
        list_before(p);
    note = begin(p, r, LINEAR_READ, HOW_STAT, 0, 0, 0);
    if (note == NULL)
        return;
    CALL(p, rv, stat(path, &st), "stat %s", path);
    end(p, r, note, path, rv != 0 ? errno : 0, 0, rv == 0 ? value_shown(r, &st) : 0);
}

/* ---- what stays open ---- */

void registers_init(struct player *p)
{
    for (int r = 0; r < REGISTERS; r++) {
        p->fds[r] = -1;
        p->maps[r] = NULL;
    }
}

void registers_close(struct player *p)
{
    for (int r = 0; r < REGISTERS; r++) {
        if (p->maps[r] != NULL)
            munmap(p->maps[r], 4096);
        p->maps[r] = NULL;
        shut(p, p->fds[r], "what stayed open");
        p->fds[r] = -1;
    }
}

static bool keep_open(struct player *p, enum register_id r)
{
    const char *path = at(p, "%s", files[r]);

    if (p->fds[r] >= 0)
        return true;
    CALL(p, p->fds[r], open(path, O_RDONLY | O_CLOEXEC), "open %s to keep", path);
    if (p->fds[r] < 0)
        outcome_of(p, "open", path, errno, 0);
    return p->fds[r] >= 0;
}

static void read_fstat(struct player *p, enum register_id r)
{
    struct note *note;
    struct stat st;
    int rv;

    if (!keep_open(p, r))
        return;
    note = begin(p, r, LINEAR_READ, HOW_FSTAT, 0, 0, 0);
    if (note == NULL)
        return;
    CALL(p, rv, fstat(p->fds[r], &st), "fstat %s", files[r]);
    end(p, r, note, files[r], rv != 0 ? errno : 0, 0, rv == 0 ? value_shown(r, &st) : 0);
}

static sigjmp_buf on_fault;

static void on_bus_error(int sig)
{
    (void)sig;
    siglongjmp(on_fault, 1);
}

/* -errno or bytes; a mapping that cannot be filled counts as EIO. */
static ssize_t read_mapped(struct player *p, enum register_id r, uint64_t *words)
{
    const struct sigaction action = {.sa_handler = on_bus_error};
    const volatile uint64_t *map;

    if (p->maps[r] == NULL) {
        void *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, p->fds[r], 0);

        if (m == MAP_FAILED)
            return -errno;
        p->maps[r] = m;
    }
    sigaction(SIGBUS, &action, NULL);
    map = p->maps[r];
    watch_enter(p->slot, "look at %s in memory", files[r]);
    if (sigsetjmp(on_fault, 1) != 0) {
        watch_leave(p->slot);
        return -EIO;
    }
    words[0] = map[0]; /* the page may be another one for the next word */
    watch_leave(p->slot);
    for (int i = 1; i < WORDS; i++)
        words[i] = words[0];
    return WORDS * sizeof *words;
}

static void read_kept(struct player *p, enum register_id r, enum how how)
{
    uint64_t words[WORDS], value = LINEAR_ABSENT;
    unsigned stopped = race->stopped[p->mount];
    enum outcome outcome;
    struct note *note;
    ssize_t n;
    int err;

    if (!keep_open(p, r))
        return;
    note = begin(p, r, LINEAR_READ, how, 0, 0, 0);
    if (note == NULL)
        return;
    if (how == HOW_MAP) {
        n = read_mapped(p, r, words);
    } else {
        CALL(p, n, pread(p->fds[r], words, sizeof words, 0), "pread %s", files[r]);
        n = n < 0 ? -errno : n;
    }
    err = n < 0 ? (int)-n : 0;
    if (err == 0)
        value = value_of(p, r, (const char *)words, (size_t)n, how_name(how));
    outcome = outcome_of(p, how_name(how), files[r], err, 0);
    /* Pages have no time: while kvfs does not run a descriptor shows what it has read (kvfs/cache/lease.h).
     */
    if (stopped % 2 == 1 || stopped != race->stopped[p->mount])
        outcome = OUTCOME_NONE;
    notes_answer(note, outcome, err, value);
    race->counts[r][how] += outcome == OUTCOME_OK;
}

/* ---- names ---- */

static void make_name(struct player *p, enum register_id r, int i)
{
    const char *path = name_path(p, r, i);
    struct note *note = begin(p, r, LINEAR_CREATE, HOW_WRITE, i, 0, 0);
    int rv, err;

    if (note == NULL)
        return;
    if (r == R_DIRS)
        CALL(p, rv, mkdir(path, 0755), "mkdir %s", path);
    else
        CALL(p, rv, open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create %s", path);
    err = rv < 0 ? errno : 0;
    end(p, r, note, path, err, EEXIST, 0);
    if (r != R_DIRS)
        shut(p, rv, path);
}

static void remove_name(struct player *p, enum register_id r, int i)
{
    const char *path = name_path(p, r, i);
    struct note *note = begin(p, r, LINEAR_DELETE, HOW_WRITE, i, 0, 0);
    int rv;

    if (note == NULL)
        return;
    if (r == R_DIRS)
        CALL(p, rv, rmdir(path), "rmdir %s", path);
    else
        CALL(p, rv, unlink(path), "unlink %s", path);
    end(p, r, note, path, rv != 0 ? errno : 0, ENOENT, 0);
}

/* The kernel looks both names up, and if both are one inode, since somebody has renamed it in between, it
 * takes the call for done and asks nobody. */
static void move_name(struct player *p, enum register_id r, int i)
{
    int to = (i + 1 + (int)dice_roll(&p->dice, NAMES - 1)) % NAMES, rv;
    const char *path = name_path(p, r, i), *new_path = name_path(p, r, to);
    struct note *note = begin(p, r, LINEAR_MOVE, HOW_WRITE, i, to, 0);

    if (note == NULL)
        return;
    CALL(p, rv, rename(path, new_path), "rename %s to %s", path, new_path);
    end(p, r, note, path, rv != 0 ? errno : 0, ENOENT, 0);
}

/* Whether the name is there: by stat or by open, of what moves by what is below it. */
static void look_at_name(struct player *p, enum register_id r, int i, enum how how)
{
    const char *name = name_path(p, r, i), *path = r == R_MOVED ? at(p, "moved/%c/below", 'a' + i) : name;
    struct note *note = begin(p, r, LINEAR_EXISTS, how, i, 0, 0);
    struct stat st;
    int rv, err;

    if (note == NULL)
        return;
    if (how == HOW_STAT)
        CALL(p, rv, stat(path, &st), "stat %s", path);
    else
        CALL(p, rv, open(path, O_RDONLY | O_CLOEXEC), "open %s", path);
    err = rv < 0 ? errno : 0;
    end(p, r, note, path, err == ENOENT ? 0 : err, 0, err == 0);
    if (how == HOW_OPEN)
        shut(p, rv, path);
}

/* -errno, or the names that are there, bit i for name i. */
static int read_names(struct player *p, const char *path)
{
    struct dirent *entry;
    int names = 0;
    DIR *dir;

    CALL(p, dir, opendir(path), "opendir %s", path);
    if (dir == NULL)
        return -errno;
    do {
        errno = 0;
        CALL(p, entry, readdir(dir), "readdir %s", path);
        if (entry != NULL && entry->d_name[0] >= 'a' && entry->d_name[0] < 'a' + NAMES)
            names |= 1 << (entry->d_name[0] - 'a');
    } while (entry != NULL);
    if (errno != 0)
        names = -errno;
    closedir(dir);
    return names;
}

static void list_names(struct player *p, enum register_id r)
{
    static const char *const folders[REGISTERS] = {
        [R_FILES] = "files", [R_DIRS] = "dirs", [R_MOVED] = "moved"};
    int only = r == R_APART ? (int)dice_roll(&p->dice, NAMES) : -1, names;
    const char *path = only >= 0 ? at(p, "apart-%d", only) : at(p, "%s", folders[r]);
    struct note *notes[NAMES] = {NULL};

    for (int i = 0; i < NAMES; i++)
        if (only < 0 || only == i)
            notes[i] = begin(p, r, LINEAR_EXISTS, HOW_LIST, i, 0, 0);
    names = read_names(p, path);
    for (int i = 0; i < NAMES; i++)
        if (notes[i] != NULL)
            end(p, r, notes[i], path, names < 0 ? -names : 0, 0, names >= 0 && (names >> i & 1) != 0);
}

/* ---- */

static void write_register(struct player *p, enum register_id r, int i)
{
    switch (r) {
    case R_REPLACED:
        write_replaced(p);
        break;
    case R_SIZE:
        write_size(p);
        break;
    case R_MTIME:
        write_mtime(p);
        break;
    case R_PLACE:
    case R_PLACE_1:
    case R_PLACE_2:
        write_place(p, r);
        break;
    case R_MOVED:
        move_name(p, r, i);
        break;
    default:
        switch (dice_roll(&p->dice, 3)) {
        case 0:
            make_name(p, r, i);
            break;
        case 1:
            remove_name(p, r, i);
            break;
        default:
            move_name(p, r, i);
            break;
        }
    }
}

/* One way of looking at it, by a number. */
static void look(struct player *p, enum register_id r, int i, unsigned way)
{
    switch (r) {
    case R_REPLACED:
        way == 0 ? read_opened(p, r) : read_stat(p, r);
        break;
    case R_SIZE:
    case R_MTIME:
        way == 0 ? read_fstat(p, r) : read_stat(p, r);
        break;
    case R_PLACE:
    case R_PLACE_1:
    case R_PLACE_2:
        way == 0 ? read_opened(p, r) : read_kept(p, r, way == 1 ? HOW_MAP : HOW_DESCRIPTOR);
        break;
    default:
        way == 0 ? list_names(p, r) : look_at_name(p, r, i, way == 1 ? HOW_OPEN : HOW_STAT);
        break;
    }
}

/* Writes, or looks; or looks, and once more just when somebody has written: what the kernel has kept of the
 * first is old then. */
void play_registers(struct player *p)
{
    enum register_id r = (enum register_id)dice_roll(&p->dice, REGISTERS);
    int i = (int)dice_roll(&p->dice, NAMES);
    unsigned way = (unsigned)dice_roll(&p->dice, 4);
    bool is_staged = r == R_SIZE || (r >= R_PLACE && r <= R_PLACE_2);
    bool writers_are_here = p->mount == (r == R_SIZE ? p->round % MOUNTS : (unsigned)(r - R_PLACE));
    uint32_t before = race->written[r];

    if (is_staged ? writers_are_here : dice_roll(&p->dice, 4) == 0) {
        if (!race->planted[p->mount])
            write_register(p, r, i);
        return;
    }
    look(p, r, i, way);
    if (dice_roll(&p->dice, 2) == 0 && wait_for_write(r, before)) {
        race->chased++;
        look(p, r, i, way);
    }
}

static bool prepare_file(struct player *p, enum register_id r)
{
    _Alignas(8) char data[REPLACED_MAX];
    uint64_t value = new_value(r);
    size_t len = r == R_REPLACED ? REPLACED_MIN + value : r == R_SIZE ? value : WORDS * sizeof(uint64_t);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000 + (time_t)value}};
    const char *path = at(p, "%s", files[r]);
    struct note *note = begin(p, r, LINEAR_SET, HOW_WRITE, 0, 0, value);
    int err;

    value_fill(value, data, REPLACED_MAX);
    if (r == R_REPLACED)
        value_fill(value, data, len);
    if (r >= R_PLACE && r <= R_PLACE_2)
        for (int i = 0; i < WORDS; i++)
            ((uint64_t *)(void *)data)[i] = value;
    err = write_new(p, path, data, len);
    if (err == 0 && r == R_MTIME && utimensat(AT_FDCWD, path, times, 0) != 0)
        err = errno;
    notes_answer(note, err == 0 ? OUTCOME_OK : OUTCOME_UNKNOWN, err, 0);
    return err == 0;
}

bool registers_prepare(struct player *p)
{
    struct note *note;
    bool ok = true;

    for (int r = 0; r < REGISTERS; r++) {
        notes_clear(&race->registers[r]);
        race->values[r] = 0;
    }
    for (int r = R_REPLACED; ok && r <= R_PLACE_2; r++)
        ok = prepare_file(p, (enum register_id)r);
    ok = ok && mkdir(at(p, "files"), 0755) == 0 && mkdir(at(p, "dirs"), 0755) == 0 &&
         mkdir(at(p, "moved"), 0755) == 0;
    for (int i = 0; ok && i < NAMES; i++)
        ok = mkdir(at(p, "apart-%d", i), 0755) == 0;
    note = begin(p, R_MOVED, LINEAR_CREATE, HOW_WRITE, 0, 0, 0);
    ok = ok && mkdir(at(p, "moved/a"), 0755) == 0 && write_new(p, at(p, "moved/a/below"), "below", 5) == 0;
    notes_answer(note, OUTCOME_OK, 0, 0);
    return ok;
}

#include "tests/mount/race/players.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/look_again.h"

#define ROUND_WAIT_MS 600000

struct race *race;

void violation(enum kind_of_fault kind, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (race->found[kind]++ < 20 && !race->quiet)
        fprintf(stderr, "# VIOLATION %.6f round %u: %s\n", (double)notes_now() / 1e9, race->round, text);
}

const char *at(const struct player *p, const char *fmt, ...)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    int n = snprintf(path, sizeof paths[0], "%s/race/%u/", p->path, p->round);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return path;
}

enum outcome outcome_of(struct player *p, const char *what, const char *path, int err, int harmless)
{
    bool away = p->down % 2 == 1 || p->down != race->down[p->mount]; /* under it */

    if (away) {
        race->unknown++;
        return OUTCOME_UNKNOWN;
    }
    race->done[p->n]++;
    if (err == 0)
        return OUTCOME_OK;
    if (err == harmless)
        return OUTCOME_REFUSED;
    race->unknown++;
    race->stale += err == ESTALE && race->faults;
    if ((err == EIO || err == ESTALE) && race->faults)
        return OUTCOME_UNKNOWN;
    if (err != EROFS || !race->faults)
        violation(FAULT_OTHER, "player %u: %s %s: %s", p->n, what, path, strerror(err));
    return err == EROFS ? OUTCOME_NONE : OUTCOME_UNKNOWN;
}

int shut(struct player *p, int fd, const char *path)
{
    int rv;

    if (fd < 0)
        return 0;
    CALL(p, rv, close(fd), "close %s", path);
    return rv != 0 ? errno : 0;
}

/* ---- rounds ---- */

bool round_prepare(struct player *p)
{
    char path[256];

    snprintf(path, sizeof path, "%s/race", p->path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return false;
    snprintf(path, sizeof path, "%s/race/static", p->path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return false;
    if (mkdir(at(p, "%s", ""), 0755) != 0 && errno != EEXIST)
        return false;
    return registers_prepare(p) && together_prepare(p);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

void round_remove(struct player *p)
{
    /* What nobody knows of may still come. */
    if (nftw(at(p, "%s", ""), remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && !race->faults)
        violation(FAULT_OTHER, "round %u cannot be removed: %s", p->round, strerror(errno));
}

void round_check_end(struct player *p)
{
    check_counters(p);
    check_records(p);
}

/* What is always there is never missing, whatever is renamed beside it. */
static void look_at_static(struct player *p)
{
    char path[256];
    struct stat st;
    int rv, err;

    snprintf(path, sizeof path, "%s/race/static", p->path);
    CALL(p, rv, stat(path, &st), "stat %s", path);
    err = rv != 0 ? errno : 0;
    if (outcome_of(p, "stat", path, err, 0) == OUTCOME_OK)
        race->statics++;
    if (err != ENOENT || p->down % 2 == 1 || p->down != race->down[p->mount])
        return;
    for (int i = 0; i < 3; i++) {
        char found[3][96] = {"there", "there", "there"};
        const char *const looked[3] = {path, at(p, "%s", ""), p->path};

        for (int k = 0; k < 3; k++)
            if (stat(looked[k], &st) != 0)
                snprintf(found[k], sizeof found[k], "%s", strerror(errno));
        violation(FAULT_MISSING, "then %s: %s; the round's directory: %s; the mount: %s, device %lx", path,
                  found[0], found[1], found[2], (unsigned long)st.st_dev);
    }
}

static bool next_round(void *arg)
{
    const struct player *p = arg;

    return race->over || (race->playing && race->round != p->round);
}

void play(struct player *p)
{
    registers_init(p);
    while (await(ROUND_WAIT_MS, next_round, p) && !race->over) {
        p->round = race->round;
        p->down = race->down[p->mount];
        while (race->playing) {
            /* What is open belongs to the mount that is gone. */
            if (p->down != race->down[p->mount] || p->down % 2 == 1) {
                registers_close(p);
                p->down = race->down[p->mount];
                if (p->down % 2 == 1) {
                    pause_ms(1);
                    continue;
                }
            }
            switch (p->role) {
            case ROLE_LOCKS:
                play_locks(p);
                break;
            case ROLE_RECORDS:
                play_records(p);
                break;
            case ROLE_EXCLUSIVE:
                play_exclusive(p);
                break;
            default:
                play_registers(p);
                break;
            }
            if (dice_roll(&p->dice, 16) == 0)
                look_at_static(p);
        }
        registers_close(p);
        race->finished[p->n] = p->round;
    }
    _exit(0);
}

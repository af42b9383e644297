/* What Raft counts on not to happen: a node that forgets. Its files are replaced by an
 * older copy of them, made while it was down, or they are lost and it starts under its old
 * id. The door (kvnode/peer/door.c) has to find it, whatever else goes wrong; somebody readmits
 * it now and then.
 *
 * Not more is asked of the door than can be known: one node at a time forgets, and only
 * if so many others have noted, durably, the life that is forgotten that no majority with
 * this node is without one of them. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/peer/door.h"
#include "sync/base/error.h"
#include "sync/raft/engine/incarnation.h"
#include "tests/sim/whole/whole.h"

static struct copy {
    bool there;
    struct disk disk;
    struct state_file state;
    uint64_t era; /* the newest that it forgot */
} copies[MAX_HOSTS + 1];

/* What the node's note says, see note_encode() in kvnode/peer/door.c. */
static bool read_note(const struct disk *d, struct incarnations *lives_out, uint64_t *gate_out)
{
    struct cursor in = cursor_of(d->note.data, d->note.len);

    if (d->note.len == 0)
        return false;
    cursor_u16(&in);
    cursor_u64(&in);
    cursor_u16(&in);
    cursor_u8(&in);
    *gate_out = cursor_u64(&in);
    if (!incarnations_decode(&in, lives_out) || !cursor_done(&in))
        violation("a note of the nodes cannot be read");
    return true;
}

static const struct incarnation *find(struct incarnations *lives, int id)
{
    static const struct incarnation nobody;
    const struct incarnation *found = incarnations_find(lives, (uint64_t)id);

    return found != NULL ? found : &nobody;
}

/* Others that know the newest life of the node (newest), or that it ever had a log. */
static bool enough_know(const struct host *h, const struct incarnation *newest)
{
    struct incarnations lives;
    uint64_t gate;
    int know = 0;

    for (int i = 1; i <= world.n; i++) {
        const struct incarnation *known;

        if (i == h->id || !read_note(&world.hosts[i].disk, &lives, &gate))
            continue;
        known = find(&lives, h->id);
        know += newest == NULL ? known->index != 0
                               : known->era == newest->era && known->boot == newest->boot &&
                                     known->nonce == newest->nonce;
    }
    return know > world.n - (world.n / 2 + 1);
}

/* It was readmitted, and has all that it had to have before it counts again. */
static bool is_whole(const struct host *h)
{
    struct incarnations lives;
    uint64_t gate;

    return host_serves(h) && read_note(&h->disk, &lives, &gate) && gate == 0 &&
           (find(&lives, h->id)->era > copies[h->id].era || options.plant == PLANT_DOOR_OPEN);
}

static bool somebody_is_forgetful(void)
{
    for (int i = 1; i <= world.n; i++)
        if (world.hosts[i].forgetful)
            return true;
    return false;
}

static void forgets(struct host *h)
{
    struct incarnations lives;
    uint64_t gate;

    if (read_note(&h->disk, &lives, &gate))
        copies[h->id].era = find(&lives, h->id)->era;
    h->forgetful = true;
    if (disk_last(&h->disk) > h->forgot)
        h->forgot = disk_last(&h->disk);
}

/* Without it there have to be enough that ever had a log. */
static bool others_are_members(const struct host *h)
{
    int n = 0;

    for (int i = 1; i <= world.n; i++)
        n += i != h->id && world.hosts[i].disk.exists;
    return n > world.n / 2;
}

static void put_back(struct host *h)
{
    struct copy *c = &copies[h->id];
    struct incarnations now, then;
    struct incarnation newest, oldest;
    uint64_t gate;

    if (!c->there || !read_note(&h->disk, &now, &gate))
        return;
    newest = *find(&now, h->id);
    read_note(&c->disk, &then, &gate);
    oldest = *find(&then, h->id);
    if ((oldest.era == newest.era && oldest.boot == newest.boot) || !enough_know(h, &newest) ||
        !others_are_members(h))
        return;
    trace("n%d is put back from a copy: its log ends at %lu, it did at %lu", h->id, disk_last(&c->disk),
          disk_last(&h->disk));
    counters.put_back++;
    forgets(h);
    host_wipe(h);
    disk_put_back(h, &c->disk);
    h->state = c->state;
    /* Lives of which nobody hears. */
    for (int64_t i = rnd_chance(0.5) ? rnd_range(1, 3) : 0; i > 0 && !h->disk.fsync_fails; i--) {
        host_start(h);
        host_crash(h, true);
    }
}

static void lose(struct host *h)
{
    if (!enough_know(h, NULL) || !others_are_members(h))
        return;
    trace("n%d loses its files: its log ended at %lu", h->id, disk_last(&h->disk));
    counters.wiped++;
    forgets(h);
    host_wipe(h);
}

static void make_copy(const struct host *h)
{
    char path[160];
    uint64_t gate;
    struct incarnations lives;

    snprintf(path, sizeof path, "%s/install.meta", h->dir);
    if (access(path, F_OK) == 0 || !h->disk.exists || !read_note(&h->disk, &lives, &gate))
        return;
    disk_copy(h, &copies[h->id].disk);
    copies[h->id].state = h->state;
    copies[h->id].there = true;
}

void forget_some(struct host *h)
{
    if (h->forgetful)
        return;
    if (!somebody_is_forgetful()) {
        if (rnd_chance(0.7))
            put_back(h);
        else if (rnd_chance(0.4))
            lose(h);
    }
    if (!h->forgetful && rnd_chance(0.4))
        make_copy(h);
}

static void readmit(struct host *h, void *arg, uint64_t id)
{
    int rv = door_readmit(h->node.door, id);

    if (rv != KV_OK)
        return;
    trace("n%lu is readmitted at n%d", id, h->id);
    counters.readmitted++;
}

/* Somebody looks. */
static void look(struct host *none, void *arg, uint64_t number)
{
    struct host *at = &world.hosts[rnd_range(1, world.n)];

    for (int i = 1; i <= world.n; i++) {
        struct host *h = &world.hosts[i];

        if (h->forgetful && is_whole(h)) {
            trace("n%d is whole again", h->id);
            h->forgetful = false;
        }
        if (h->forgetful && h->up && !host_takes_part(h) && at->up && at != h)
            queue_at(world.now, at, readmit, NULL, (uint64_t)h->id, NULL);
    }
    queue_at(world.now + rnd_range(100 * MS, world.calm ? 300 * MS : 2 * SECOND), NULL, look, NULL, 0, NULL);
}

void forget_start(void)
{
    queue_at(world.now, NULL, look, NULL, 0, NULL);
}

void forget_free(void)
{
    for (int i = 1; i <= MAX_HOSTS; i++) {
        disk_deinit(&copies[i].disk);
        copies[i] = (struct copy){.there = false};
    }
}
